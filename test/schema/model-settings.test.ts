/** How an expert wants its model to be asked, from its file to the lock that the gateway reads. */
import { expect, it } from 'vitest'
import { makeLocks } from '../../registry/lock.ts'
import { isRefusal } from '../../schema/error.ts'
import { parseExpertFile } from '../../schema/expert-file.ts'
import { isFaults } from '../../schema/toml-file.ts'

function lockedOf(text: string) {
  const file = parseExpertFile(text, 'senmon.toml')
  if (isFaults(file)) throw new Error(file.map(({ message }) => message).join('\n'))
  const own = { name: 'a', version: '1.0.0', integrity: 'sha512-a' } as const
  const locks = makeLocks(own, file, { delegates: new Map(), skills: new Map() })
  if (isRefusal(locks)) throw new Error(locks.message)
  const lock = locks.get('a')
  return lock?.experts[lock.coordinator]
}

const expert = '[experts."a"]\ninstruction = "Do it."\nbase = []\n'

it('is part of the lock, the expert before its file', () => {
  const locked = lockedOf(`maxRetries = 7\nreasoningBudget = "high"\n${expert}reasoningBudget = 0\ntimeout = 9000\n`)
  expect(locked?.modelSettings).toEqual({ maxRetries: 7, reasoningBudget: 0, timeoutMs: 9000 })
})

it('is part of the lock beside the rule of compaction', () => {
  expect(lockedOf(`${expert}[experts."a".compaction]\nat = 0.5\n`)?.compaction).toEqual({ at: 0.5 })
})

it('is left out of the lock when nothing is said, so that locks from before are as they were', () => {
  expect(lockedOf(expert)).not.toHaveProperty('modelSettings')
  expect(lockedOf(expert)).not.toHaveProperty('output')
  expect(lockedOf(expert)).not.toHaveProperty('compaction')
})
