// The npm packages `ai` and `@ai-sdk/openai-compatible`: URL MODEL EMBED_MODEL. Prints what it got as one JSON value.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

const [url, model, embedModel] = process.argv.slice(2);
const provider = createOpenAICompatible({
  name: "localllm",
  baseURL: `${url}/v1`,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const common = { model: provider(model), maxRetries: 0, temperature: 0 };
const got = {};

const whole = await generateText({ ...common, prompt: "Name two colours.", maxOutputTokens: 12 });
got.chat = [whole.text, whole.usage.outputTokens];
const stream = streamText({ ...common, prompt: "Name two colours.", maxOutputTokens: 12 });
let text = "";
for await (const piece of stream.textStream) text += piece;
got.stream = [text, (await stream.usage).outputTokens];
const get_weather = tool({
  description: "The weather in a city.",
  inputSchema: z.object({ city: z.string().max(12) }),
});
const forced = {
  ...common,
  prompt: "What is the weather in Oslo?",
  tools: { get_weather },
  toolChoice: "required",
  maxOutputTokens: 60,
};
const called = await generateText(forced);
got.tools = [called.toolCalls[0].toolName, called.toolCalls[0].input];
const streamed = await streamText(forced).toolCalls;
got.toolsStream = [streamed[0].toolName, streamed[0].input];
const bound = await generateObject({
  ...common,
  prompt: "Describe a town.",
  schema: z.object({ city: z.string().max(12), size: z.number().int().min(0).max(9) }),
  maxOutputTokens: 60,
});
got.structured = bound.object;
if (embedModel) {
  const made = await embedMany({ model: provider.embeddingModel(embedModel), values: ["one", "two"] });
  got.embed = made.embeddings.map((vector) => vector.length);
}
console.log(JSON.stringify(got));
