import { createRequire } from "node:module";
import * as inhouse from "inhouse";
import { storeFolder } from "inhouse/hub";
import answer from "./answer.cjs";

if (createRequire(import.meta.url)("inhouse").loadModel !== inhouse.loadModel)
  throw new Error("two instances");
if (typeof storeFolder() !== "string") throw new Error("no store");
console.log(await answer(inhouse));
