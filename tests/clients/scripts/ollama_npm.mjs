// The npm package `ollama` against a daemon: node - URL MODEL EMBED_MODEL. Prints what it got as JSON.
import { Ollama } from "ollama";

const [url, model, embedModel] = process.argv.slice(2);
const client = new Ollama({ host: url });
const options = { num_predict: 12, temperature: 0, seed: 1 };
const user = (content) => [{ role: "user", content }];
const got = {};

const chat = await client.chat({ model, messages: user("Name two colours."), options });
got.chat = { text: chat.message.content, evalCount: chat.eval_count, total: chat.total_duration };
let text = "";
let last;
for await (const part of await client.chat({ model, messages: user("Name two colours."), options, stream: true })) {
  text += part.message.content;
  last = part;
}
got.stream = { text, done: last.done, evalCount: last.eval_count };
const add = {
  type: "function",
  function: { name: "add", description: "Add.", parameters: { type: "object", properties: { a: { type: "number" } } } },
};
const called = await client.chat({ model, messages: user("What is 1 + 2?"), tools: [add], options });
got.tools = called.message.role;
const format = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 }, size: { type: "integer", minimum: 0, maximum: 9 } },
  required: ["city", "size"],
};
const bound = await client.chat({
  model,
  messages: user("Describe a town as JSON."),
  format,
  options: { num_predict: 60, seed: 1 },
});
got.structured = JSON.parse(bound.message.content);
const made = await client.generate({ model, prompt: "Say hello.", options });
got.generate = { text: made.response, numContext: made.context.length };
got.models = (await client.list()).models.map((entry) => entry.name);
got.family = (await client.show({ model })).details.family;
got.running = (await client.ps()).models.map((entry) => entry.name);
if (embedModel) {
  const embedded = await client.embed({ model: embedModel, input: ["one town", "another town"] });
  got.embed = embedded.embeddings.map((vector) => vector.length);
}
try {
  await client.chat({ model: "nobody:1b", messages: user("Hi") });
} catch (error) {
  got.missing = [error.status_code, error.message];
}
const aborted = await client.generate({ model, prompt: "Tell a long story.", stream: true });
for await (const _part of aborted) {
  aborted.abort();
  break;
}
console.log(JSON.stringify(got));
