import { defineConfig } from "vitest/config";

// Forks, because the addon belongs to the whole process. test/models needs the larger models and runs with
// `npm run test:models`.
export default defineConfig({
  test: {
    pool: "forks",
    include: ["test/**/*.test.ts"],
    exclude: ["test/models/**"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
