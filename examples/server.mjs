// A web service that streams answers as server-sent events:
//
//   node examples/server.mjs MODEL [PORT]
//   curl -N localhost:3000/chat -H 'content-type: application/json' \
//     -d '{ "messages": [{ "role": "user", "content": "Why is the sky blue?" }] }'
import { pipeline } from "node:stream/promises";
import express from "express";
import { InhouseError, loadModel } from "inhouse";

const [file, port = "3000"] = process.argv.slice(2);
const model = await loadModel(file, { maxQueue: 64 });
const app = express();
app.use(express.json());

app.post("/chat", async (request, response) => {
  // Wrong messages and options throw here, before anything is sent.
  const { messages, maxTokens = 200 } = request.body ?? {};
  const answer = model.chat(messages, { maxTokens });
  response.on("close", () => answer.cancel()); // the reader is gone: the model stops within a step
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  await pipeline(events(answer), response).catch(() => {}); // keeps to the reader's pace; fails once it is gone
});

async function* events(answer) {
  const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
  try {
    for await (const { text } of answer) yield event("text", text);
    const { finishReason, usage } = await answer.result();
    yield event("end", { finishReason, usage });
  } catch (error) {
    yield event("error", { code: error.code, message: error.message }); // too late for a status: it has begun
  }
}

app.use((error, _request, response, _next) => {
  const wrong = InhouseError.is(error, "ERR_INHOUSE_INVALID_ARGUMENT");
  response.status(wrong ? 400 : (error.status ?? 500)).json({ code: error.code, message: error.message });
});

const server = app.listen(Number(port), () =>
  console.log(`listening at http://localhost:${server.address().port}`),
);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    server.close();
    await model.dispose(); // ends the answers that are still being written
    server.closeAllConnections();
  });
}
