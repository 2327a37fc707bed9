// What each way of loading the package is tried with: a short real answer.
module.exports = async ({ loadModel }) => {
  const model = await loadModel(process.env.MODEL, { contextLength: 256 });
  const text = await model.complete("The capital of France is", { maxTokens: 3, temperature: 0 }).text();
  await model.dispose();
  return text;
};
