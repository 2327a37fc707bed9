// Searches text files by meaning: embeds their paragraphs and a question, and prints the nearest ones.
//
//   node examples/search.mjs MODEL "How do I cancel an answer?" docs/*.md
//
// Any model works; one that was trained for embeddings works best.
import { readFile } from "node:fs/promises";
import { loadModel } from "inhouse";

const [file, question, ...paths] = process.argv.slice(2);
if (paths.length === 0) {
  console.error("usage: node search.mjs MODEL QUESTION FILE…");
  process.exit(2);
}

const paragraphs = [];
for (const path of paths) {
  const text = await readFile(path, "utf8");
  for (const part of text.split(/\n\s*\n/)) {
    if (part.trim().length > 40) paragraphs.push({ path, text: part.trim() });
  }
}

const model = await loadModel(file, { contextLength: 512 });
// One call embeds all of them, as many together as fit into a step; vectors have length 1.
const [query, ...vectors] = await model.embed([question, ...paragraphs.map(({ text }) => text)], {
  truncate: true,
});
await model.dispose();

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const ranked = paragraphs
  .map((paragraph, i) => ({ ...paragraph, score: dot(query, vectors[i]) }))
  .sort((a, b) => b.score - a.score);
for (const { score, path, text } of ranked.slice(0, 3))
  console.log(`${score.toFixed(3)} ${path}: ${text.replaceAll("\n", " ").slice(0, 100)}`);
