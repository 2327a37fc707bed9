// The part of docs/performance.md about the engine, made from the results of bench/engine.mjs.
import { number, plural, table } from "./tables.mjs";

const none = "–"; // in place of a figure that was not measured
const percent = (share) => `${Math.round(100 * share)}%`;
const times = (ratio) => (ratio === undefined ? none : `${number(ratio)}x`);
const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

function serving({ cases, pace, rounds }) {
  const peers = [...new Set(cases.flatMap((one) => Object.keys(one.peers)))];
  const rows = cases.map((one) => [
    one.name,
    number(one.seconds),
    number(one.tokensPerSecond),
    ...peers.flatMap((peer) => [number(one.peers[peer].seconds), times(one.peers[peer].ratio)]),
    number(one.eventLoopCpuMicrosecondsPerToken),
  ]);
  const head = [
    "",
    "seconds",
    "tokens/s",
    ...peers.flatMap((peer) => [`${peer}, s`, "ratio"]),
    "event loop, µs/token",
  ];
  return `Bursts (\`bench/serving.mjs\`, medians of ${plural(rounds, "round")}); the last column is what the event loop's thread computes for each token:

${table(head, rows)}

${pace.name}, the 95th percentile of the gap between their tokens goes from ${number(pace.gapBeforeMs)} to ${number(pace.gapDuringMs)} ms (${number(pace.gapRatio)}x), and the prompt keeps ${percent(pace.promptShareOfItsRateAlone)} of its rate alone (\`maxSlowdown\` 2).
`;
}

function alone({ engine, bare, ratio }) {
  return `One stream through the public API decodes ${number(engine)} tokens/s, the bare forward pass ${number(bare)}: ${percent(ratio)} (median of pairs).
`;
}

function embeddings(results) {
  const rows = results.map((one) => {
    const [ours, [peer, theirs] = []] = [
      one.seconds.inhouse,
      Object.entries(one.seconds).find(([name]) => name !== "inhouse"),
    ];
    return [
      `${one.texts} texts of ${one.textTokens.join("–")} tokens`,
      number(median(ours)),
      number(one.tokensPerSecond),
      peer === undefined ? none : `${number(median(theirs))} (${peer})`,
      times(one.ratio),
    ];
  });
  return `Embeddings (\`bench/embeddings.mjs\`), pooled from the last token:

${table(["", "seconds", "tokens/s", "peer, s", "ratio"], rows)}
`;
}

function speculation({ results, draft }) {
  const rows = results.map((one) => [
    one.case,
    one.repeats ? "yes" : "no",
    one.way,
    number(one.tokensPerSecondWithout),
    number(one.tokensPerSecond),
    times(one.ratio),
    one.draftTokens > 0 ? percent(one.acceptedDraftTokens / one.draftTokens) : none,
  ]);
  return `Speculation (\`bench/speculation.mjs\`${draft === undefined ? "" : `, draft ${draft}`}), tokens per second of one answer; the tokens are the same:

${table(["answer", "repeats its prompt", "guesses", "without", "with", "ratio", "guesses held"], rows)}
`;
}

function soak(one) {
  const { warm, last, growth } = one.memory;
  return `${one.requests} requests on ${one.model} (\`bench/soak.mjs\`), ${one.cancelled} of them cancelled, after ${one.warmUp} to warm up: ${one.problems === 0 ? "every answer is what its request gets alone" : plural(one.problems, "problem")}, ${plural(one.blocksHeld, "block")} left, memory at rest ${number(warm / 1e6)} → ${number(last / 1e6)} MB (${(100 * growth).toFixed(2)}%).
`;
}

function eventLoop({ writing, ...parts }) {
  const names = { rest: "at rest", load: "five loads", prompt: "a long prompt", streams: "8 streams" };
  const rows = Object.entries(names).map(([part, name]) => {
    const { p50, p99, max } = parts[part];
    return [name, number(p50), number(p99), number(max)];
  });
  return `Delay of the event loop in ms (\`bench/event-loop.mjs\`):

${table(["", "median", "99%", "most"], rows)}

With its thread fully busy with JavaScript one stream decodes ${number(writing.busy)} tokens/s, with an idle one ${number(writing.idle)}: ${percent(writing.share)} (${percent(writing.low)} – ${percent(writing.high)} in five pairs).
`;
}

const parts = { serving, alone, embeddings, speculation, eventLoop, soak };

/** One section for each machine; `[file name, content]` of its result. */
export function engineSection([name, result]) {
  const engines = Object.entries(result.versions).map(([engine, version]) => `${engine} ${version}`);
  const texts = Object.entries(parts)
    .filter(([part]) => result[part] !== undefined)
    .map(([part, render]) => render(result[part]));
  return `### ${result.machine.processor}, ${result.machine.cores} cores: the engine

${result.model}, ${plural(result.threads, "thread")}, ${result.date.slice(0, 10)}, ${engines.join(", ")} (\`bench/results/${name}\`).

${texts.join("\n")}`;
}
