/** The secrets of one skill, exactly those that its locked requiredEnv names; and those that a job may have heard of. */
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

/** Every secret that a skill of the lock may have been given, in the clear: to take them out of what is shown. */
export async function secretsOfLock(
  secrets: Pick<Secrets, 'find'>,
  applicationId: ApplicationId,
  lock: Lock,
): Promise<readonly string[]> {
  const skills = Object.values(lock.experts).flatMap((expert) => Object.values(expert.skills))
  const names = new Set(skills.flatMap((skill) => ('requiredEnv' in skill ? skill.requiredEnv : [])))
  const found = await Promise.all([...names].map((name) => secrets.find(applicationId, name)))
  return found.flatMap((secret) => secret?.reveal() ?? [])
}
