/** Effect classes: what an expert file may say of a tool, and what counts when several say it. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withImplicitSkills } from '../../schema/base-skill.ts'
import { CALL_EFFECTS, callKeyOf, effectOf } from '../../schema/effect.ts'
import { isFaults } from '../../schema/toml-file.ts'
import { parseExpertFile } from '../../schema/expert-file.ts'
import { OUTCOME_ANSWERS, outcomeQuestionOf, outcomeResult } from '../../schema/outcome.ts'
import { approvalQuestionOf, rootRunId } from '../../schema/question.ts'
import { refuseAnswer } from '../../src/job/answer.ts'
import { JOB } from '../run/team.ts'

const strictness = (effect: string | null) => (effect === null ? -1 : CALL_EFFECTS.indexOf(effect as never))

describe('the class of a tool', () => {
  it('is what stands under its very name, whatever globs say', () => {
    expect(effectOf({ '*': 'once', read: 'pure' }, 'read')).toBe('pure')
    expect(effectOf({ read: 'pure', '*': 'once' }, 'read')).toBe('pure')
    expect(effectOf({ read: 'once', 'r*': 'pure' }, 'read')).toBe('once')
  })

  it('is the strictest of the globs that match, in whatever order they stand', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^[ab*?]{1,3}$/), fc.constantFrom(...CALL_EFFECTS)),
        fc.stringMatching(/^[ab]{1,3}$/),
        (table, tool) => {
          const effect = effectOf(table, tool)
          const reversed = Object.fromEntries(Object.entries(table).toReversed())
          expect(effectOf(reversed, tool)).toBe(effect)
          if (Object.hasOwn(table, tool)) {
            expect(effect).toBe(table[tool])
            return
          }
          // One glob more never loosens it.
          const more = effectOf({ '??*': 'idempotent', ...table }, tool)
          expect(strictness(more)).toBeGreaterThanOrEqual(strictness(effect))
        },
      ),
    )
  })

  it('is none where nothing is said', () => {
    expect(effectOf(undefined, 'read')).toBeNull()
    expect(effectOf({}, 'read')).toBeNull()
    expect(effectOf({ write: 'once' }, 'read')).toBeNull()
    expect(effectOf({ write: 'once' }, '__proto__')).toBeNull()
    expect(effectOf({ write: 'once' }, 'constructor')).toBeNull()
  })
})

describe('[experts."x".skills."y".effects]', () => {
  const file = (effects: string, more = '') => `[experts."x"]
instruction = "Do it."
[experts."x".skills."mail"]
type = "mcpStdioSkill"
packageName = "@acme/mail"
${more}
[experts."x".skills."mail".effects]
${effects}
`
  const read = (text: string) => parseExpertFile(text, 'senmon.toml')
  const words = (text: string) => {
    const faults = read(text)
    return isFaults(faults) ? faults.map((fault) => JSON.stringify(fault)).join('\n') : 'no fault'
  }

  it('gives each tool or glob its class', () => {
    const parsed = read(file('send = "once"\n"read_*" = "pure"\n"*" = "idempotent"'))
    expect(parsed).toMatchObject({
      experts: { x: { skills: { mail: { effects: { send: 'once', 'read_*': 'pure', '*': 'idempotent' } } } } },
    })
  })

  it('stands beside the time that a human has for what the skill asks, at skills on the network as well', () => {
    const lines = 'questionTimeout = 60\n[experts."x".skills."far".effects]\npay = "once"\n'
    const far = `[experts."x"]\ninstruction = "Do it."\n[experts."x".skills."far"]\nendpoint = "https://example.com/mcp"\n`
    for (const type of ['mcpHttpSkill', 'mcpSseSkill'])
      expect(read(`${far}type = "${type}"\n${lines}`)).toMatchObject({
        experts: { x: { skills: { far: { type, questionTimeoutSeconds: 60, effects: { pay: 'once' } } } } },
      })
    expect(read(file('', 'questionTimeout = 1'))).toMatchObject({
      experts: { x: { skills: { mail: { questionTimeoutSeconds: 1 } } } },
    })
    for (const wrong of ['0', '1.5', '"1h"', '31536001'])
      expect(words(file('', `questionTimeout = ${wrong}`))).toContain('questionTimeout')
  })

  it('at the expert is of the tools that it has without declaring them', () => {
    const own = (effects: string, more = '') =>
      `[experts."x"]\ninstruction = "Do it."\n${more}\n[experts."x".effects]\n${effects}\n`
    const skillsOf = (text: string) => {
      const parsed = read(text)
      if (isFaults(parsed)) throw new Error(words(text))
      return withImplicitSkills(parsed).experts['x']?.skills
    }
    const skills = skillsOf(own('"shell/exec" = "once"\n"files/read_*" = "pure"\n"files/delete" = "once"'))
    expect(skills?.['shell']).toMatchObject({ effects: { exec: 'once' } })
    expect(skills?.['files']).toMatchObject({
      effects: { read_file: 'pure', read_image: 'pure', read_pdf: 'pure', delete: 'once' },
    })
    expect(skillsOf(own('"*" = "idempotent"\n"shell/exec" = "once"'))?.['shell']).toMatchObject({
      effects: { exec: 'once' },
    })
    for (const wrong of ['"base/todo" = "once"', '"exec" = "once"', '"shell/run" = "once"', '"mail/send" = "once"'])
      expect(words(own(wrong))).toContain('no base tool')
    expect(words(own('"shell/exec" = "once"', 'base = ["files/*"]'))).toContain('no base tool')
    expect(words(own('"shell/exec" = "twice"'))).toContain('pure')
    const declared = `[experts."x".skills."shell"]\ntype = "mcpStdioSkill"\npackageName = "@acme/shell"\n`
    expect(words(`${own('"shell/exec" = "once"')}${declared}`)).toContain('into the effects of that skill')
    const origins = `[experts."x".skills."b"]\ntype = "mcpStdioSkill"\npackageName = "@perstack/base"\n`
    expect(words(`[experts."x"]\ninstruction = "Do it."\n${origins}effects = { exec = "once" }\n`)).toContain(
      'at the expert',
    )
  })

  it('refuses a class that is none, a name that is none, and a tool that is not on offer', () => {
    expect(words(file('send = "twice"'))).toContain('pure')
    expect(words(file('"mail/send" = "once"'))).toContain('must be a tool of the skill')
    expect(words(file('send = "once"', 'pick = ["read"]'))).toContain('on offer')
    expect(words(file('send = "once"', 'omit = ["send"]'))).toContain('on offer')
    expect(words(file('"s*" = "once"', 'pick = ["send"]'))).toBe('no fault')
  })
})

describe('the question of an outcome', () => {
  const run = rootRunId(JOB, 0)
  const call = { type: 'toolCall', callId: 'call_1_0', name: 'mail/send', args: { to: 'a' } } as const

  it('is the same whoever derives it, and another for each retry, for other arguments, and than an approval', () => {
    const asked = outcomeQuestionOf(JOB, run, call, 0)
    expect(outcomeQuestionOf(JOB, run, { ...call }, 0)).toEqual(asked)
    const others = [
      outcomeQuestionOf(JOB, run, call, 1),
      outcomeQuestionOf(JOB, run, { ...call, args: { to: 'b' } }, 0),
      approvalQuestionOf(JOB, run, call, { edits: false }),
    ]
    expect(new Set([asked, ...others].map(({ id }) => id)).size).toBe(4)
  })

  it('takes done, retry and abandon, and nothing else', () => {
    const asked = outcomeQuestionOf(JOB, run, call, 0)
    for (const answer of OUTCOME_ANSWERS) expect(refuseAnswer(asked, answer)).toBeUndefined()
    for (const answer of ['yes', '', true, null, { done: true }])
      expect(refuseAnswer(asked, answer)).toMatchObject({ refused: 'answer_invalid' })
  })

  it('leads to a result that says who knows it, and to none when it is to be made again', () => {
    expect(outcomeResult(call, 'done')).toMatchObject({ callId: 'call_1_0', isError: false })
    expect(outcomeResult(call, 'abandon')).toMatchObject({ callId: 'call_1_0', isError: true })
    for (const answer of ['retry', 'Done', true, null]) expect(outcomeResult(call, answer)).toBeUndefined()
  })

  it('has a key for each call, another in each job', () => {
    const keys = [callKeyOf(JOB, run, 'a'), callKeyOf(JOB, run, 'b'), callKeyOf(JOB, rootRunId(JOB, 1), 'a')]
    expect(new Set(keys).size).toBe(3)
  })
})
