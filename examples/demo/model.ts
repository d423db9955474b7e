/** Which model plays: a provider whose key is in the environment, else the recorded turns. */

interface Model {
  /** For createJob; null leaves it to the expert file, which names the rehearsal. */
  readonly name: string | null
  /** What the server needs of the environment to reach it. */
  readonly environment: Readonly<Record<string, string>>
  readonly says: string
}

/** In this order; DEMO_MODEL names another model of the provider. */
const PROVIDERS = [
  { variable: 'ANTHROPIC_API_KEY', model: 'anthropic/claude-sonnet-4-5' },
  { variable: 'OPENAI_API_KEY', model: 'openai/gpt-5-mini' },
  { variable: 'GOOGLE_GENERATIVE_AI_API_KEY', model: 'google/gemini-2.5-flash' },
  { variable: 'OLLAMA_BASE_URL', model: 'ollama/qwen3' },
]

export function chooseModel(environment: Readonly<Record<string, string | undefined>>): Model {
  for (const { variable, model } of PROVIDERS) {
    const value = environment[variable]
    if (value === undefined || value === '') continue
    const name = environment['DEMO_MODEL'] ?? model
    return { name, environment: { [variable]: value }, says: `${variable} is set, so ${name} plays.` }
  }
  return { name: null, environment: {}, says: 'No provider is set, so recorded turns play, offline.' }
}
