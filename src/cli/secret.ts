/** `senmon secret`: an application's secrets by name. A value comes from standard input, so that no argument list shows it. */
import { PlatformError } from '../../schema/error.ts'
import { isJsonObject } from '../../schema/json.ts'
import type { Command } from './command.ts'
import { shownLine } from './terminal.ts'

const SET = `mutation ($input: SetSecretInput!) { setSecret(input: $input) {
  __typename ... on Secret { name updatedAt } ... on Refusal { code sentence: message } } }`
const DELETE = `mutation ($input: DeleteSecretInput!) { deleteSecret(input: $input) {
  __typename ... on DeletedSecret { name } ... on Refusal { code sentence: message } } }`
const LIST = 'query { secrets { name updatedAt } }'

export const secret: Command = {
  name: 'secret',
  usage: 'set <name> | delete <name> | list',
  summary: "Keeps an application's secrets, which only the skills that name them in requiredEnv receive.",
  details: 'set reads the value from standard input: `printf %s "$TOKEN" | senmon secret set GITHUB_TOKEN`.',
  options: {},
  arity: [1, 2],
  async perform(call) {
    const [verb = '', name] = call.positionals
    const { terminal } = call
    if (verb === 'list') {
      const { secrets } = await (await call.api()).request(LIST, {})
      if (call.json) terminal.write(`${JSON.stringify(secrets)}\n`)
      else if (Array.isArray(secrets))
        for (const row of secrets.filter(isJsonObject)) terminal.write(`${shownLine(row['name'] as string)}\n`)
      return 0
    }
    if ((verb !== 'set' && verb !== 'delete') || name === undefined)
      throw new PlatformError('input_invalid', `Write one of: senmon secret ${this.usage}.`)
    const api = await call.api()
    if (verb === 'set') {
      const value = (await terminal.readAll()).replace(/\r?\n$/, '')
      if (value === '') throw new PlatformError('input_invalid', `Standard input holds no value for ${name}.`)
      await api.mutate('setSecret', SET, { input: { name, value } })
    } else await api.mutate('deleteSecret', DELETE, { input: { name } })
    terminal.write(call.json ? `${JSON.stringify({ name })}\n` : `${verb === 'set' ? 'Set' : 'Deleted'} ${name}.\n`)
    return 0
  },
}
