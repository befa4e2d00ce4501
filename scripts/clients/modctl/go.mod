module weighhouse.example/clients/modctl

go 1.25.5

require github.com/modelpack/modctl v0.2.2
