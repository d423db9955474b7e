/** What of this computer a compartment with the system's programs is shown. */
import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isSystemPath, systemOptions } from '../../src/sandbox/system-programs.ts'
import { scratchDirectory } from '../support/scratch.ts'

/** The paths that options of this kind name. */
const named = (options: readonly string[], option: string): readonly string[] =>
  options.flatMap((word, i) => (word === option ? [options[i + (option === '--symlink' ? 2 : 1)] ?? ''] : []))

describe.runIf(process.platform === 'linux')('the programs of the system', () => {
  const elsewhere = scratchDirectory('runtime')
  const options = systemOptions(elsewhere)
  rmSync(elsewhere, { recursive: true })

  it('are shown read-only, and of /etc only what programs are found by', () => {
    expect(named(options, '--bind')).toEqual([])
    const shown = [...named(options, '--ro-bind'), ...named(options, '--symlink')]
    expect(shown).toContain('/usr')
    expect(shown.filter((path) => path.startsWith('/etc'))).toEqual(
      ['/etc/alternatives', '/etc/ld.so.cache'].filter((path) => existsSync(path)),
    )
    expect(shown.filter((path) => !path.startsWith('/etc')).every(isSystemPath)).toBe(true)
  })

  it('come without what an operator keeps below /usr', () => {
    for (const path of ['/usr/local/etc', '/usr/src'].filter((one) => existsSync(one)))
      expect(named(options, '--tmpfs')).toContain(path)
  })

  const deep = readdirSync('/usr/share', { withFileTypes: true }).find(
    (entry) => entry.isDirectory() && readdirSync(`/usr/share/${entry.name}`).length > 0,
  )
  it.runIf(deep !== undefined)('come without the place of a server that keeps its machines below /usr', () => {
    const place = `/usr/share/${deep?.name}`
    const inside = readdirSync(place, { withFileTypes: true }).find((entry) => entry.isDirectory())
    if (inside === undefined) return
    expect(named(systemOptions(join(place, inside.name)), '--tmpfs')).toContain(place)
  })

  it('are not shown at all when such a place cannot be covered', () => {
    for (const path of ['/usr/share', '/usr/local/share', '/usr']) {
      if (!existsSync(path)) continue
      expect(() => systemOptions(path), path).toThrow('too near to the programs of the system')
    }
  })
})
