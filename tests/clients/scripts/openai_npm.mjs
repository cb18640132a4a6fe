// The npm package `openai`: URL MODEL EMBED_MODEL. Prints what it got as one JSON value.
import OpenAI from "openai";

const [url, model, embedModel] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Name two colours." }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 12 } },
  required: ["city"],
  additionalProperties: false,
};
const got = {};

const fields = { model, messages, temperature: 0, max_completion_tokens: 12 };
const whole = await client.chat.completions.create(fields);
got.chat = [whole.choices[0].message.content, whole.usage.completion_tokens];
let text = "";
for await (const chunk of await client.chat.completions.create({ ...fields, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
got.stream = text;
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const ask = [{ role: "user", content: "What is the weather in Oslo?" }];
const forced = { model, messages: ask, tools, tool_choice: "required", max_tokens: 60 };
const runner = client.chat.completions.stream(forced);
const call = (await runner.finalChatCompletion()).choices[0].message.tool_calls[0].function;
got.tools = [call.name, JSON.parse(call.arguments)];
const schema = {
  ...parameters,
  properties: { ...parameters.properties, size: { type: "integer", maximum: 9 } },
  required: ["city", "size"],
};
const bound = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Describe a town." }],
  response_format: { type: "json_schema", json_schema: { name: "town", strict: true, schema } },
  max_tokens: 60,
});
got.structured = JSON.parse(bound.choices[0].message.content);
const stream = client.responses.stream({ model, input: "Name two colours.", temperature: 0, max_output_tokens: 12 });
const response = await stream.finalResponse();
got.response = [response.output_text, response.usage.output_tokens];
got.again = (await client.responses.retrieve(response.id)).output_text;
if (embedModel) {
  const made = await client.embeddings.create({ model: embedModel, input: ["one", "two"] });
  got.embed = made.data.map((entry) => entry.embedding.length);
}
try {
  await client.chat.completions.create({ model: "absent", messages });
} catch (error) {
  got.missing = [error.status, error.code];
}
console.log(JSON.stringify(got));
