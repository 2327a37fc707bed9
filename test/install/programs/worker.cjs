const { isMainThread, parentPort, Worker } = require("node:worker_threads");

if (isMainThread) {
  const worker = new Worker(__filename);
  worker.on("message", (text) => {
    console.log(text);
    void worker.terminate();
  });
} else {
  require("./answer.cjs")(require("inhouse")).then((text) => parentPort.postMessage(text));
}
