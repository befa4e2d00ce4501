#!/usr/bin/env node
import { build } from './build.js';

await build('src');
const { main } = await import('../dist/src/main.js');
await main(process.argv.slice(2));
