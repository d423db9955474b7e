/** The printed schema is the contract that clients read: it changes only on purpose. */
import { readFile } from 'node:fs/promises'
import { buildSchema, isObjectType } from 'graphql'
import { describe, expect, it } from 'vitest'
import { printApi, schema } from '../../src/graphql/schema.ts'

describe('schema/api.graphql', () => {
  it('is what the code says; `node src/graphql/print.ts` writes it anew', async () => {
    expect(await readFile(new URL('../../schema/api.graphql', import.meta.url), 'utf8')).toBe(printApi())
  })

  it('is a schema by itself', () => {
    expect(Object.keys(buildSchema(printApi()).getMutationType()?.getFields() ?? {})).toContain('createJob')
  })

  it('has every name that clients rely on', () => {
    const fields = (name: string) => {
      const type = schema.getType(name)
      return isObjectType(type) ? Object.keys(type.getFields()) : []
    }
    expect(fields('Job')).toEqual(
      expect.arrayContaining(
        'id status outcome reason expertKey query runs checkpoints questions result usage machine workspace lock createdAt'.split(
          ' ',
        ),
      ),
    )
    expect(fields('Checkpoint').toSorted()).toEqual(
      'id seq jobId runId expertKey stepNumber status messages newMessages toolCalls toolResults prompt context compactions usage treeHash stateHash createdAt'
        .split(' ')
        .toSorted(),
    )
    expect(fields('JobEvent').toSorted()).toEqual(
      'seq type runId expertKey stepNumber at data hash'.split(' ').toSorted(),
    )
    expect(fields('Refusal').toSorted()).toEqual(['code', 'hint', 'message'])
    expect(fields('Usage').toSorted()).toEqual(
      'inputTokens cachedInputTokens outputTokens reasoningTokens costUsd'.split(' ').toSorted(),
    )
    expect(fields('Subscription').toSorted()).toEqual(['checkpoints', 'events'])
  })
})
