// inhouse beside its peers on one model file: engines in turn, each round in a fresh process, each engine at the number
// of threads and the settings that serve it best for the figure.
import { basename, join } from "node:path";

import fitting from "../dist/cli/bench/cases.js";
import figures from "../dist/cli/bench/figures.js";
import machine from "../dist/cli/bench/limits.js";
import works from "../dist/cli/bench/work.js";
import { loadModel } from "../dist/index.js";
import metadata from "../dist/metadata.js";
import { outputOf } from "./child.mjs";

const batch = 512; // tokens of a step, of every engine
// After the first round only what came this near to an engine's best for a figure is measured on.
const near = 0.8;
const far = 0.5;

const better = ({ unit }, a, b) => (unit === "tokens/s" ? a > b : a < b);
const ratio = ({ unit }, ours, theirs) => (unit === "tokens/s" ? ours / theirs : theirs / ours);

async function runOnce(engine, job) {
  const argv = [join(import.meta.dirname, "round.mjs"), engine, JSON.stringify(job)];
  return JSON.parse(await outputOf(process.execPath, argv));
}

/** How many threads inhouse takes by itself: those of physical cores, within what a container may use. */
export async function ownThreads(path) {
  const model = await loadModel(path, { device: "cpu", contextLength: 64, repack: false });
  const { deviceDescription } = model.info;
  await model.dispose();
  return Number(/(\d+) threads?$/.exec(deviceDescription)[1]);
}

/** Numbers of threads to try: one, what inhouse takes by itself, half of the processors, and all of them. */
export const threadCounts = (own, processors) =>
  [...new Set([1, own, Math.ceil(processors / 2), processors])].sort((a, b) => a - b);

/** Every way to run the engines: `{ engine, settings, rounds, cases }`. */
async function configurations(engines, threads, kvType, cases) {
  const all = [];
  for (const engine of engines) {
    const { variants } = await import(`./peers/${engine}.mjs`);
    for (const count of threads)
      for (const variant of variants(kvType))
        all.push({ engine, settings: { threads: count, ...variant }, kvType, rounds: [], cases });
  }
  return all;
}

/**
 * Leaves each configuration the cases at which it may be its engine's best, by its best round so far: `near` its rivals
 * after two rounds, not far off after one, as a round may be a bad one.
 */
function narrow(all, round) {
  for (const one of all) {
    const rivals = all.filter(({ engine }) => engine === one.engine);
    one.promising = one.cases.filter((test) => {
      const name = fitting.nameOf(test);
      const rate = ({ rounds }) => Math.max(...rounds.map(({ rates }) => rates[name] ?? 0));
      const best = Math.max(...rivals.map(rate));
      return best > 0 && rate(one) >= (round === 1 ? far : near) * best;
    });
  }
  for (const one of all) one.cases = one.promising;
}

/**
 * Undefined where nothing fits the model's context; what does not fit is said.
 *
 * @param {string} path
 * @param {{ engines: string[], threads: number[], rounds: number, kvType?: string, lists: object }} plan
 * @param {(text: string) => void} say
 */
export async function measureModel(path, { engines, threads, rounds, kvType: type = "f16", lists }, say) {
  const shape = await machine.readShape(path);
  const kvType = { k: type, v: type };
  const work = new works.ModelWork(shape.header, shape.attention, kvType);
  const room = { contextLength: shape.trainedContextLength, maxBatchTokens: batch };
  const { fit: cases, misfits } = fitting.fitting(fitting.casesOf(lists), room);
  for (const { reason } of misfits) say(`${basename(path)}: left out: ${reason}`);
  if (cases.length === 0) return undefined;
  const contextLength = Math.max(...cases.map(fitting.contextOf));
  const all = await configurations(engines, threads, type, cases);
  const limits = Object.fromEntries(threads.map((count) => [count, []]));
  for (let round = 1; round <= rounds; ++round) {
    for (const one of all.filter((other) => other.cases.length > 0)) {
      limits[one.settings.threads].push(await machine.measureLimits(one.settings.threads));
      say(`${basename(path)}: round ${round} of ${rounds}, ${one.engine} ${JSON.stringify(one.settings)}`);
      const { vocabularySize } = shape;
      const settings = { ...one.settings, kvType: one.kvType };
      const job = { path, settings, cases: one.cases, contextLength, vocabularySize };
      one.rounds.push(await runOnce(one.engine, job));
    }
    if (round <= 2) narrow(all, round);
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
      ...misfits.map(({ reason }) => `left out: ${reason}`),
      ...perEngine.flatMap((list, i) =>
        cases
          .filter((one) => !list.some(({ name }) => name === fitting.nameOf(one)))
          .map(
            (one) =>
              `${engines[i]}, ${fitting.nameOf(one)}: not timed in every round, ${fitting.untimedReason(one)}`,
          ),
      ),
      ...Object.entries(limits).flatMap(([count, list]) => figures.limitNoiseOf(list, Number(count))),
      ...perEngine.flatMap((list, i) => figures.noiseOf(list).map((warning) => `${engines[i]}, ${warning}`)),
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
  const order = [...cases.map(fitting.nameOf), ...best.keys()];
  return [...new Set(order)].flatMap((name) => best.get(name) ?? []);
}

/**
 * `[{ name, unit, engines: { inhouse: { value, … }, … }, ratios: { peer: … } }]`, of those engines that have the figure;
 * ratios above 1: inhouse is better.
 */
function beside(engines, perEngine) {
  const [own, ...peers] = perEngine.map((list) => new Map(list.map((figure) => [figure.name, figure])));
  return [...own.values()].map((figure) => {
    const { name, unit } = figure;
    const others = engines.slice(1).flatMap((engine, i) => {
      const other = peers[i].get(name);
      return other === undefined ? [] : [[engine, other]];
    });
    const strip = ({ name: _, unit: __, ...rest }) => rest;
    return {
      name,
      unit,
      engines: Object.fromEntries([[engines[0], figure], ...others].map(([of, one]) => [of, strip(one)])),
      ratios: Object.fromEntries(
        others.map(([engine, other]) => [engine, ratio(figure, figure.value, other.value)]),
      ),
    };
  });
}
