/** An expert, an application and a question, for tests of the gateway. */
import { printExpertKey } from '../../schema/expert-key.ts'
import { makeId } from '../../schema/id.ts'
import type { LockedExpert } from '../../schema/lock.ts'
import type { Message } from '../../schema/message.ts'

export const applicationId = makeId('app', 0, new Uint8Array(16))

export const reviewer: LockedExpert = {
  key: printExpertKey('@acme/team/reviewer', '1.0.0'),
  name: '@acme/team/reviewer',
  version: '1.0.0',
  package: { name: '@acme/team', version: '1.0.0', integrity: 'sha512-team' },
  description: 'Reviews code.',
  instruction: 'You review code.',
  model: null,
  maxSteps: null,
  delegates: {},
  skills: {},
}

export const asked: Message = { role: 'user', content: [{ type: 'text', text: 'Review server.js' }] }
