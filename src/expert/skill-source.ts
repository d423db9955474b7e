/** Port: published packages that experts may name as their skills. */

/** One package at one version: one that has a program to start, or that says of itself that it is a skill. */
export interface PublishedSkill {
  /** `name@version`. */
  readonly key: string
  readonly name: string
  readonly version: string
  readonly description: string
  /** `sha512-<base64>` of the package. */
  readonly integrity: string
  readonly owner: string
  /** All versions of the package, newest first. */
  readonly versions: readonly string[]
  /** The owner's word why not to use it; null for none. */
  readonly deprecated: string | null
  readonly publishedAt: number
}

export interface SkillSource {
  /** What `name`, `name@range` or `name@tag` means; undefined when nothing is published that it could mean. */
  find(key: string): Promise<PublishedSkill | undefined>
  /**
   * Packages that say of themselves that they are skills, at their `latest`, by name; `search` matches name and description.
   * `after` is the last name seen.
   */
  list(search: string | null, first: number, after: string | null): Promise<readonly PublishedSkill[]>
}
