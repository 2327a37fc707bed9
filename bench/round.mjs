// One round of one engine in a process of its own: node bench/round.mjs ENGINE JSON, as bench/models.mjs calls it.
import measuring from "../dist/cli/bench/measure.js";
import { start } from "./start.mjs";

start(import.meta.filename);
const [engine, text] = process.argv.slice(2);
const { path, settings, cases, contextLength, vocabularySize } = JSON.parse(text);
const { opener } = await import(`./peers/${engine}.mjs`);
const prompts = measuring.promptSource(vocabularySize);
const samples = await measuring.measureRound(opener(path, settings), cases, prompts, contextLength);
console.log(JSON.stringify(samples));
process.exit(0);
