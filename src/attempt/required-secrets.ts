/** The secrets of one skill: exactly those that its locked requiredEnv names. */
import { PlatformError } from '../../schema/error.ts'
import type { ExpertKey } from '../../schema/expert-key.ts'
import type { ApplicationId } from '../../schema/id.ts'
import type { Lock } from '../../schema/lock.ts'
import type { SecretsParams, SecretsValue } from '../../schema/control.ts'
import type { Secrets } from '../secret/secrets.ts'

/**
 * Values by name, in the clear, for the supervisor alone.
 * Throws `secret_missing`, `skill_not_found`, `secret_undecipherable`.
 */
export async function requiredSecrets(
  secrets: Secrets,
  applicationId: ApplicationId,
  lock: Lock,
  { expertKey, skill: name }: SecretsParams,
): Promise<SecretsValue> {
  const expert = Object.hasOwn(lock.experts, expertKey) ? lock.experts[expertKey as ExpertKey] : undefined // it is one
  const skill = expert !== undefined && Object.hasOwn(expert.skills, name) ? expert.skills[name] : undefined
  if (skill?.type !== 'mcpStdioSkill')
    throw new PlatformError('skill_not_found', `The lock has no stdio skill ${name} of expert ${expertKey}.`)
  const values: Record<string, string> = {}
  const missing: string[] = []
  for (const variable of skill.requiredEnv) {
    const secret = await secrets.find(applicationId, variable)
    if (secret === undefined) missing.push(variable)
    else values[variable] = secret.reveal()
  }
  if (missing.length > 0)
    throw new PlatformError('secret_missing', `Skill ${name} of ${expertKey} needs ${missing.join(', ')}, not set.`)
  return values
}
