// Device "cuda" through the library, on a driver whose device is the host (test/native/cuda_twin/driver.cpp).
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const build = join(import.meta.dirname, "../build");
const twin = join(build, "test/native/libinhouse_cuda_twin.so");

let folder: string, model: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-cuda-"));
  model = join(folder, "small.gguf");
  const shape = "--layers 1 --width 64 --ffn-width 64 --heads 2 --kv-heads 1 --head-dim 32 --vocabulary 500";
  const made = spawnSync(
    join(build, "bench/native/inhouse_make_model"),
    ["--shape", "smollm2-135m", "--type", "q8_0", ...shape.split(" "), model],
    { encoding: "utf8" },
  );
  expect(made).toMatchObject({ status: 0, stderr: "" });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a program prints as JSON in a process of its own; `wrong` is the twin's INHOUSE_TWIN. */
function run(body: string, env: Record<string, string> = {}): unknown {
  const program = `
    const { loadModel } = require(${JSON.stringify(join(import.meta.dirname, "../dist/index.js"))});
    const settings = { maxTokens: 5, temperature: 0, ignoreStopTokens: true };
    const load = (device, options) =>
      loadModel(${JSON.stringify(model)}, { device, contextLength: 64, maxConcurrent: 2, ...options });
    (async () => { ${body} })().then((value) => console.log(JSON.stringify(value)));`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", program], {
    encoding: "utf8",
    env: { ...process.env, INHOUSE_CUDA_DRIVER: twin, INHOUSE_CUDA_IMAGE: twin, ...env },
  });
  expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
  return JSON.parse(stdout);
}
const failure =
  "const code = async (work) => work.then(() => 'none', (error) => [error.code, error.message]);";

describe("device cuda", () => {
  test("writes, scores, embeds and saves what it knows", () => {
    const state = JSON.stringify(join(folder, "state"));
    const got = run(`
      const one = await load("cuda"), same = await load("cuda:0"), exact = await load("reference");
      const prompt = Array.from({ length: 40 }, (_, i) => 300 + i);
      const texts = [];
      for (const model of [one, same, exact]) texts.push((await model.complete(prompt, settings).result()).tokens);
      const [score] = await one.score([300, 301], [[302]]), [vector] = await one.embed(["a"]);
      const [expected] = await exact.score([300, 301], [[302]]);
      const saved = await one.saveState(${state});
      await one.dispose();
      const again = await load("cuda");
      await again.loadState(${state});
      const { usage, tokens } = await again.complete(prompt, settings).result();
      return { info: [one.info.device, one.info.deviceDescription, one.info.deviceFallback ?? null], texts,
               close: Math.abs(score.logprob - expected.logprob) < 0.01, length: vector.length,
               saved: saved.tokens > 0, cached: usage.cachedTokens, same: tokens.join() === texts[0].join() };`);
    const { texts, ...rest } = got as { texts: number[][] };
    expect(rest).toEqual({
      info: ["cuda", "cuda (twin)", null],
      close: true,
      length: 64,
      saved: true,
      cached: 32,
      same: true,
    });
    expect(texts[0]).toHaveLength(5);
    expect(texts[1]).toEqual(texts[0]);
  });

  test.each([
    [
      "a driver that is missing",
      { INHOUSE_CUDA_DRIVER: "/nowhere/libcuda.so.1" },
      "the NVIDIA driver's library",
    ],
    ["no device", { INHOUSE_TWIN: "devices=0" }, "no NVIDIA GPU"],
    ["too old a device", { INHOUSE_TWIN: "capability=61" }, "compute capability 6.1"],
    [
      "an image that is missing",
      { INHOUSE_CUDA_IMAGE: "/nowhere/image" },
      "kernels cannot be read: /nowhere",
    ],
    ["an image that does not load", { INHOUSE_TWIN: "no_image" }, "does not load the kernels"],
    ["a device too small for the weights", { INHOUSE_TWIN: "memory=30000" }, "bytes left|available"],
    ["a device too small for the cache", { INHOUSE_TWIN: "memory=200000" }, "bytes left|available"],
  ])("%s is refused, and auto takes the CPU and says so", (_, env, words) => {
    const got = run(
      `${failure}
       const refused = await code(load("cuda"));
       const { info } = await load("auto");
       return { refused, device: info.device, fallback: info.deviceFallback };`,
      env,
    ) as { refused: [string, string]; device: string; fallback: string };
    expect(got.refused[0]).toMatch(/^ERR_INHOUSE_(DEVICE_UNAVAILABLE|OUT_OF_MEMORY)$/);
    expect(got.refused[1]).toMatch(new RegExp(words));
    expect(got.device).toBe("cpu");
    expect(got.fallback).toMatch(new RegExp(words));
  });

  test.each([{ instructionSet: "avx2" }, { repack: false }, { lockMemory: true }])(
    "%j is for the CPU: auto stays there, and cuda refuses it",
    (options) => {
      const got = run(
        `${failure}
         const options = ${JSON.stringify(options)};
         const { info } = await load("auto", options);
         return [info.device, info.deviceFallback ?? null, await code(load("cuda", options))];`,
      );
      const name = Object.keys(options)[0];
      const message = expect.stringContaining(`option '${name}'`) as string;
      expect(got).toEqual(["cpu", null, ["ERR_INHOUSE_INVALID_ARGUMENT", message]]);
    },
  );

  test("a cache of a type that only the CPU has keeps auto there", () => {
    const got = run(`const { info } = await load("auto", { kvType: { v: "q4_0" } }); return info.device;`);
    expect(got).toBe("cpu");
  });

  test("a lost device ends requests, and the model can be loaded again", () => {
    const got = run(
      `${failure}
       const model = await load("cuda");
       const first = await code(model.complete([300, 301], { ...settings, maxTokens: 60 }).result());
       const second = await code(model.complete([300, 301], settings).result());
       await model.dispose();
       const { tokens } = await (await load("cuda")).complete([300, 301], settings).result();
       return { first: first[0], second: second[0], tokens: tokens.length };`,
      { INHOUSE_TWIN: "lost_after=100" },
    );
    expect(got).toEqual({ first: "ERR_INHOUSE_DEVICE_LOST", second: "ERR_INHOUSE_DEVICE_LOST", tokens: 5 });
  });

  test("without the CUDA part auto is the CPU, and cuda says what is missing", () => {
    const got = run(
      `${failure}
       return [(await load("auto")).info.deviceFallback ?? null, await code(load("cuda"))];`,
      { INHOUSE_CUDA_IMAGE: "" },
    );
    expect(got).toEqual([null, ["ERR_INHOUSE_DEVICE_UNAVAILABLE", expect.stringMatching(/CUDA kernels/)]]);
  });

  test.each(["cuda:", "cuda:01", "cuda:x", "gpu", "cuda:1234", 0])("device %j is no device", (device) => {
    const got = run(`${failure} return code((async () => load(${JSON.stringify(device)}))());`);
    expect(got).toEqual(["ERR_INHOUSE_INVALID_ARGUMENT", expect.stringContaining('"cuda"')]);
  });
});
