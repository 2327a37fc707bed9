// inhouse beside its peers on one model file: engines in turn, each round in a fresh process, each engine at the number
// of threads and the settings that serve it best for the figure.
import { execFileSync } from "node:child_process";
import { basename, join } from "node:path";

import figures from "../dist/cli/bench/figures.js";
import machine from "../dist/cli/bench/limits.js";
import measuring from "../dist/cli/bench/measure.js";
import works from "../dist/cli/bench/work.js";
import metadata from "../dist/metadata.js";

const batch = 512; // tokens of a step, of every engine
const kvType = { k: "f16", v: "f16" };
// After the first round only what came this near to an engine's best for a figure is measured on.
const near = 0.8;

const better = ({ unit }, a, b) => (unit === "tokens/s" ? a > b : a < b);
const ratio = ({ unit }, ours, theirs) => (unit === "tokens/s" ? ours / theirs : theirs / ours);

function runOnce(engine, job) {
  const argv = [join(import.meta.dirname, "round.mjs"), engine, JSON.stringify(job)];
  const output = execFileSync(process.execPath, argv, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return JSON.parse(output);
}

/** Every way to run the engines: `{ engine, settings, rounds, cases }`. */
async function configurations(engines, threads, cases) {
  const all = [];
  for (const engine of engines) {
    const { variants } = await import(`./peers/${engine}.mjs`);
    for (const count of threads)
      for (const variant of variants)
        all.push({ engine, settings: { threads: count, ...variant }, rounds: [], cases });
  }
  return all;
}

/** Leaves each configuration the cases at which it may be its engine's best. */
function narrow(all) {
  for (const one of all) {
    const rivals = all.filter(({ engine }) => engine === one.engine);
    one.promising = one.cases.filter((test) => {
      const name = measuring.nameOf(test);
      const best = Math.max(...rivals.map(({ rounds }) => rounds[0].rates[name]));
      return one.rounds[0].rates[name] >= near * best;
    });
  }
  for (const one of all) one.cases = one.promising;
}

/**
 * @param {string} path
 * @param {{ engines: string[], threads: number[], rounds: number, lists: object }} plan
 * @param {(text: string) => void} say
 */
export async function measureModel(path, { engines, threads, rounds, lists }, say) {
  const shape = await machine.readShape(path);
  const work = new works.ModelWork(shape.header, shape.attention, kvType);
  const cases = measuring
    .casesOf(lists)
    .filter((one) => measuring.contextOf(one) <= shape.trainedContextLength);
  const contextLength = Math.max(...cases.map(measuring.contextOf));
  const all = await configurations(engines, threads, cases);
  const limits = Object.fromEntries(threads.map((count) => [count, []]));
  for (let round = 1; round <= rounds; ++round) {
    for (const count of threads) limits[count].push(await machine.measureLimits(count));
    for (const one of all.filter((other) => other.cases.length > 0)) {
      say(`${basename(path)}: round ${round} of ${rounds}, ${one.engine} ${JSON.stringify(one.settings)}`);
      const { vocabularySize } = shape;
      const job = { path, settings: one.settings, cases: one.cases, contextLength, vocabularySize };
      one.rounds.push(runOnce(one.engine, job));
    }
    if (round === 1) narrow(all);
  }
  const best = Object.fromEntries(
    Object.entries(limits).map(([count, list]) => [count, machine.bestLimits(list)]),
  );
  const perEngine = engines.map((engine) => bestFigures(engine, all, { cases, work, limits: best, rounds }));
  return {
    file: basename(path),
    architecture: metadata.textOf(shape.header, "general.architecture"),
    quantization: metadata.quantizationOf(shape.header),
    settings: { contextLength, batch, kvType, decodeTokens: lists.tokens, rounds },
    limits: best,
    figures: beside(engines, perEngine),
    warnings: [
      ...Object.values(limits).flatMap((list) => figures.noiseOf([], list)),
      ...perEngine.flatMap((list, i) =>
        figures.noiseOf(list, []).map((warning) => `${engines[i]}, ${warning}`),
      ),
    ],
  };
}

/** Each figure of one engine, of the configuration that is best at it. */
function bestFigures(engine, all, { cases, work, limits, rounds }) {
  const best = new Map();
  for (const one of all.filter((other) => other.engine === engine)) {
    const list = figures.figuresOf(one.rounds, cases, work, limits[one.settings.threads], batch);
    for (const figure of list.filter((other) => other.rounds.length === rounds)) {
      const other = best.get(figure.name);
      if (other === undefined || better(figure, figure.value, other.value))
        best.set(figure.name, { ...figure, settings: one.settings });
    }
  }
  const order = [...cases.map(measuring.nameOf), ...best.keys()];
  return [...new Set(order)].map((name) => best.get(name));
}

/** `[{ name, unit, engines: { inhouse: { value, … }, … }, ratios: { peer: … } }]`; ratios above 1: inhouse is better. */
function beside(engines, perEngine) {
  const [own, ...peers] = perEngine.map((list) => new Map(list.map((figure) => [figure.name, figure])));
  return [...own.values()].map((figure) => {
    const { name, unit } = figure;
    const of = [figure, ...peers.map((peer) => peer.get(name))];
    const strip = ({ name: _, unit: __, ...rest }) => rest;
    return {
      name,
      unit,
      engines: Object.fromEntries(engines.map((engine, i) => [engine, strip(of[i])])),
      ratios: Object.fromEntries(
        engines.slice(1).map((engine, i) => [engine, ratio(figure, figure.value, of[i + 1].value)]),
      ),
    };
  });
}
