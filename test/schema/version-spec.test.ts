/** Which version a version, range or tag means. */
import { describe, expect, it } from 'vitest'
import { isRange, isVersion, newestFirst, pickVersion, satisfies } from '../../schema/version-spec.ts'

const found = {
  tags: { latest: '1.1.0', next: '2.0.0-rc.1', gone: '9.9.9' },
  versions: ['1.0.0', '1.1.0', '1.2.0', '2.0.0-rc.1'].map((version) => ({ version })),
}

describe('a version spec', () => {
  it.each([
    [undefined, '1.1.0'],
    ['latest', '1.1.0'],
    ['next', '2.0.0-rc.1'],
    ['1.0.0', '1.0.0'],
    ['2.0.0-rc.1', '2.0.0-rc.1'],
    // Within the range of `latest`, its owner's word counts more than the highest number.
    ['^1', '1.1.0'],
    ['*', '1.1.0'],
    ['>1.1.0', '1.2.0'],
    ['<1.1.0', '1.0.0'],
    ['^2', undefined],
    ['>=2.0.0-rc.0', '2.0.0-rc.1'],
    ['none', undefined],
    ['constructor', undefined],
    ['1.3.0', undefined],
  ])('%s means %s', (spec, version) => {
    expect(pickVersion(found, spec)).toBe(version)
  })

  it('is a version only as semver prints it', () => {
    for (const text of ['1.0.0', '1.0.0-rc.1', '0.0.0']) expect(isVersion(text)).toBe(true)
    for (const text of ['v1.0.0', '1', '1.0', '01.0.0', ' 1.0.0', '1.0.0-', `1.0.0-${'x'.repeat(200)}`, ''])
      expect(isVersion(text)).toBe(false)
  })

  it('orders versions, newest first, and knows ranges from tags', () => {
    expect(newestFirst(['1.0.0', '1.10.0', '1.9.0', '1.10.0-rc.1'])).toEqual([
      '1.10.0',
      '1.10.0-rc.1',
      '1.9.0',
      '1.0.0',
    ])
    expect([isRange('^1'), isRange('latest')]).toEqual([true, false])
    expect([satisfies('1.2.0', '^1'), satisfies('1.2.0', '^2'), satisfies('1.2.0', 'latest')]).toEqual([
      true,
      false,
      false,
    ])
  })
})
