#!/usr/bin/env node
import { build } from './build.js';

build('src');
const { main } = await import('../dist/src/main.js');
await main(process.argv.slice(2));
