// A registry of a few tarballs on the loopback interface, which npm takes for a real one: enough of the package protocol
// to install from.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { basename } from "node:path";

/**
 * Serves the tarballs until `close` is called.
 * @param {string[]} tarballs paths
 * @returns {Promise<{ url: string, missing: string[], close(): void }>} `missing`: what was asked for in vain
 */
export async function serve(tarballs) {
  const files = new Map(tarballs.map((path) => [`/-/${basename(path)}`, readFileSync(path)]));
  const packages = new Map();
  for (const path of tarballs) {
    const { stdout } = spawnSync("tar", ["-xzOf", path, "package/package.json"], { encoding: "utf8" });
    const manifest = JSON.parse(stdout);
    packages.set(manifest.name, { manifest, file: `/-/${basename(path)}` });
  }
  const missing = [];
  const server = createServer(({ url: asked, headers }, response) => {
    const path = decodeURIComponent(asked);
    const found = packages.get(path.slice(1));
    if (files.has(path)) {
      response.setHeader("content-type", "application/octet-stream").end(files.get(path));
    } else if (found !== undefined) {
      const { name, version } = found.manifest;
      const bytes = files.get(found.file);
      const integrity = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
      const dist = { tarball: `http://${headers.host}${found.file}`, integrity };
      const packument = {
        name,
        "dist-tags": { latest: version },
        versions: { [version]: { ...found.manifest, dist } },
      };
      response.setHeader("content-type", "application/json").end(JSON.stringify(packument));
    } else {
      missing.push(path);
      response.writeHead(404, { "content-type": "application/json" }).end('{ "error": "not found" }');
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, missing, close: () => server.close() };
}
