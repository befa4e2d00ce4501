// Reads manifests of Kubernetes from standard input, separated by lines of ---, and holds each against Kubernetes' own
// types: unknown fields, fields twice and wrong types are faults. Prints the kinds that it read.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	reader := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	for {
		document, err := reader.Read()
		if err == io.EOF {
			return
		}
		if err == nil {
			var kind fmt.Stringer
			_, found, failure := decoder.Decode(document, nil, nil)
			if found != nil {
				kind = found
			}
			if failure == nil {
				fmt.Println(kind)
				continue
			}
			err = fmt.Errorf("%v: %w", kind, failure)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
