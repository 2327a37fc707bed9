import { defineConfig } from "vitest/config";
import base from "./vitest.config.mts";

// The tests of the larger models: `npm run test:models`.
export default defineConfig({
  ...base,
  test: { ...base.test, include: ["test/models/**/*.test.ts"], exclude: [] },
});
