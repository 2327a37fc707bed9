// What `npm run bench` is asked for. Whatever is wrong with it is said before anything is measured.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import flags from "../dist/cli/flags.js";
import usage from "../dist/cli/usage.js";
import loading from "../dist/load-options.js";

const parts = ["kernels", "models", "shapes", "typescript"];
const defaults = { prompts: [64, 512], depths: [1024, 4096], streams: [1, 4, 16, 32], tokens: 64 };
const most = 1 << 20;

/** The engines that bench/peers can measure beside inhouse. */
function knownPeers() {
  const files = readdirSync(join(import.meta.dirname, "peers")).filter((name) => name.endsWith(".mjs"));
  return files
    .map((name) => name.slice(0, -".mjs".length))
    .filter((name) => !["inhouse", "divergence"].includes(name));
}

function oneOf(name, text, known) {
  if (known.includes(text)) return text;
  throw new usage.UsageError(`--${name}: expected ${known.join(", ")}, got ${JSON.stringify(text)}`);
}

/** The values of `--peer`, each once. */
export const readPeers = (texts) => [...new Set(texts)].map((text) => oneOf("peer", text, knownPeers()));

const table = {
  only: {
    name: "only",
    value: "PART,…",
    parse: (texts) =>
      texts
        .at(-1)
        .split(",")
        .map((text) => oneOf("only", text, parts)),
  },
  peers: {
    name: "peer",
    value: "NAME",
    repeats: true,
    parse: readPeers,
  },
  rounds: flags.integerFlag("rounds", "N", 1, 1000),
  threads: flags.integersFlag("threads", 1, 512),
  prompts: flags.integersFlag("prompt", 1, most),
  depths: flags.integersFlag("depth", 1, most),
  streams: flags.integersFlag("streams", 1, 1024),
  tokens: flags.integerFlag("decode-tokens", "N", 1, most),
  kvType: {
    name: "kv-type",
    value: "TYPE",
    parse: (texts) => oneOf("kv-type", texts.at(-1), loading.kvTypes),
  },
  machine: {
    name: "machine",
    value: "NAME",
    parse: (texts) => {
      if (/^\w[\w.-]*$/.test(texts.at(-1))) return texts.at(-1);
      throw new usage.UsageError("--machine: expected a name of letters, digits, dots and dashes");
    },
  },
  json: { name: "json", value: "FILE" },
};

/**
 * Reads the command line; throws a UsageError. `keep`: is the result to be the machine's, under bench/results? It is
 * where `--machine` asks for it, and where all parts were measured with the default lists, on the default models and
 * beside a peer, so that results of machines can be compared.
 */
export function readOptions(argv) {
  const { values, positionals: models } = flags.parseFlags(argv, table);
  const missing = models.find((path) => !existsSync(path));
  if (missing !== undefined) throw new usage.UsageError(`${missing}: no such file`);
  const { only = parts, peers = [], rounds = 3, threads, kvType = "f16", machine, json, ...lists } = values;
  const changed = [
    ...Object.keys(lists),
    ...["rounds", "threads", "kvType"].filter((name) => name in values),
  ];
  const whole = models.length === 0 && parts.every((part) => only.includes(part)) && changed.length === 0;
  return {
    models,
    only: new Set(only),
    peers,
    rounds,
    threads,
    kvType,
    lists: { ...defaults, ...lists },
    machine,
    json,
    keep: machine !== undefined || (whole && peers.length > 0),
  };
}
