/** The shell skill as it is published, in a real compartment with the programs of the system. */
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Json } from '../../schema/json.ts'
import { textOf } from '../../schema/message.ts'
import { descendants, findProcess, listProcesses } from '../../src/local/processes.ts'
import { buildSkills, openFilesSkill } from '../support/files-skill.ts'
import { Content, JOB_ID, lockOf, MachineDrive } from '../support/machine-drive.ts'
import { until } from '../support/platform.ts'
import { openHost, openSandboxes, sandboxMissing, type OpenHost } from '../support/sandbox.ts'
import { driveSkills, type SkillDrive } from '../support/skill-drive.ts'
import { ROOT } from '../support/source.ts'
import { scratchDirectory } from '../support/scratch.ts'

const missing = await sandboxMissing()
/** A line has begun all that it begins, even where the computer is slow, before so many seconds are over. */
const ENOUGH_S = 8
const lock = lockOf({ shell: { package: 'shell', entry: 'dist/main.js', programs: 'system' } })

describe.skipIf(missing !== undefined)('the shell skill in its compartment', () => {
  let opened: OpenHost
  let drive: MachineDrive
  let skills: SkillDrive
  let content: Content
  /** A machine with a line that outlasts the first word of the shell about it, in ten seconds: beside the other tests. */
  let patient: {
    readonly drive: MachineDrive
    readonly skills: SkillDrive
    readonly calling: ReturnType<SkillDrive['call']>
  }

  beforeAll(async () => {
    await buildSkills()
    const install = () => Promise.resolve(join(ROOT, 'plugins/shell'))
    opened = await openHost(openSandboxes, { install })
    content = new Content()
    const inputTreeHash = content.tree({ 'spec.md': 'the spec\n' })
    drive = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
    skills = driveSkills(drive, lock, { inputTreeHash })
    const other = new MachineDrive(await opened.host.open({ jobId: JOB_ID, fence: 1 }, lock), content)
    const own = driveSkills(other, lock)
    patient = { drive: other, skills: own, calling: own.call('shell', 'exec', { command: 'sleep 12; echo woke' }) }
    await own.untilSent((line) => line.type === 'frame' && JSON.stringify(line).includes('woke'))
    own.pass(0.9)
  })
  afterAll(async () => {
    await drive?.destroy()
    await patient?.drive.destroy()
    await opened?.close()
  })

  async function exec(command: string, more: { [name: string]: Json } = {}, signal?: AbortSignal) {
    const answer = await skills.call('shell', 'exec', { command, ...more }, signal)
    if ('code' in answer) throw new Error(answer.message)
    return { text: textOf(answer.content), isError: answer.isError }
  }
  /** What sleeps below this process, as the host sees it. */
  const sleeping = () => {
    const processes = listProcesses()
    const us = processes.find(({ pid }) => pid === process.pid)
    if (us === undefined) throw new Error('no /proc')
    const below = descendants(us.pid, processes).filter(({ zombie }) => !zombie)
    return below.map(({ pid }) => commandLine(pid)).filter((line) => /(^| )sleep 10\d\d/.test(line))
  }

  it('offers one tool, which says that it may change anything', async () => {
    const tools = await skills.list('shell')
    expect(tools).toMatchObject([{ name: 'exec', annotations: { destructiveHint: true, openWorldHint: false } }])
  })

  it('runs a line of shell in the workspace, and says how it ended when it did not end well', async () => {
    expect(await exec('pwd; echo $((6 * 7))')).toEqual({ text: '/workspace\n42\n', isError: false })
    expect(await exec('true')).toEqual({ text: '[exit code 0]', isError: false })
    expect(await exec('echo no; exit 3')).toEqual({ text: 'no\n[exit code 3]', isError: true })
    expect(await exec('kill -TERM $$')).toEqual({ text: '[ended by SIGTERM]', isError: true })
    expect((await exec('there-is-no-such-program')).text).toMatch(/not found\n\[exit code 127\]$/)
  })

  it('keeps what is written to stdout and stderr in its order', async () => {
    expect((await exec('echo 1; echo 2 >&2; echo 3; echo 4 >&2')).text).toBe('1\n2\n3\n4\n')
  })

  it('finds the programs of the system and the Node of the platform', async () => {
    const { text } = await exec(
      'printf "b\\na\\n" | sort | head -1; node -e "console.log(process.version)"; echo $HOME',
    )
    expect(text).toBe(`a\n${process.version}\n/tmp\n`)
  })

  it('reads the input and cannot change it; sees nothing of the host', async () => {
    expect((await exec('cat input/spec.md')).text).toBe('the spec\n')
    const tries = ['echo x > input/spec.md', 'rm -rf input', 'mv input away', 'echo x > /usr/bin/x', 'touch /etc/x']
    for (const line of tries) expect(await exec(line), line).toMatchObject({ isError: true })
    expect((await exec('cat input/spec.md')).text).toBe('the spec\n')
    expect((await exec(`ls -d /home /root /var ${ROOT} /etc/shadow /usr/local/etc/* 2>/dev/null | wc -l`)).text).toBe(
      '0\n',
    )
    expect((await exec('env | cut -d= -f1 | sort')).text.split('\n')).not.toContain('SENMON_KEY')
  })

  it('reaches no network', async () => {
    const probe = `node -e "require('net').connect(80, '1.1.1.1').on('error', (e) => console.log(e.code)).on('connect', () => console.log('OPEN'))"`
    expect((await exec(probe)).text).toMatch(/^E[A-Z]+\n$/)
    expect(await exec('exec 3<>/dev/tcp/127.0.0.1/80')).toMatchObject({ isError: true })
  })

  it('runs elsewhere only within the workspace', async () => {
    await exec('mkdir -p sub/dir; ln -sfn / out')
    expect((await exec('pwd', { cwd: 'sub/dir' })).text).toBe('/workspace/sub/dir\n')
    expect((await exec('pwd', { cwd: '/workspace/sub' })).text).toBe('/workspace/sub\n')
    for (const cwd of ['..', '/', 'out', 'nowhere', '/tmp', ''])
      if (cwd !== '') expect(await exec('pwd', { cwd }), cwd).toMatchObject({ isError: true })
    await exec('rm out')
  })

  it('keeps the beginning and the end of much output, in whole characters, and says what is missing', async () => {
    const { text } = await exec('echo first; yes あいう | head -c 3000000; echo; echo last')
    expect(text).toMatch(/^first\n/)
    expect(text).toMatch(/\nlast\n$/)
    expect(text).toMatch(/\n\[\d+ bytes are left out here; write the output to a file to read all of it\]\n/)
    expect(text).not.toContain('\ufffd')
    expect(Buffer.byteLength(text)).toBeLessThan(17 * 1024)
    expect((await exec('printf "a\\0b"')).text).toBe('a\ufffdb\n')
  })

  it('ends a line whose time is up, with every process that it started, however it tried to get away', async () => {
    const away =
      'sleep 1000 & setsid sleep 1001 & (setsid env -i sleep 1002 &) & nohup sleep 1003 >/dev/null 2>&1 & ' +
      "trap '' TERM INT HUP; mkdir -p made; echo late > made/late.txt; echo started; sleep 1004"
    const { text, isError } = await exec(away, { timeoutSeconds: ENOUGH_S })
    expect({ text, isError }).toEqual({
      text: `started\n[ended after ${ENOUGH_S} s, with all that it had started]`,
      isError: true,
    })
    expect(sleeping()).toEqual([])
    // Its work is kept all the same.
    const late = drive.said.findLast((one) => one.type === 'workspace')
    expect(late?.type === 'workspace' && content.read(late.treeHash)).toMatchObject({ 'made/late.txt': 'late\n' })
  })

  it('leaves nothing running when a line ends by itself', async () => {
    const { text } = await exec('setsid env -i sleep 1005 & sleep 1006 & echo done')
    expect(text).toBe('done\n')
    expect(sleeping()).toEqual([])
  })

  it('ends a line that is canceled', async () => {
    const cancel = new AbortController()
    const call = exec('setsid sleep 1008 & echo started > canceled; sleep 1009', {}, cancel.signal)
    const canceled = expect(call).rejects.toThrow('enough')
    await until(async () => (sleeping().length === 2 ? true : undefined))
    cancel.abort(new Error('enough'))
    await canceled
    await until(async () => (sleeping().length === 0 ? true : undefined))
    expect((await exec('cat canceled')).text).toBe('started\n')
  })

  it('runs lines of one step one after the other', async () => {
    const lines = Array.from({ length: 5 }, (_, i) => `cat turn 2>/dev/null; echo ${i} > turn; sleep 0.05; cat turn`)
    const texts = await Promise.all(lines.map(async (line) => (await exec(line)).text))
    expect(texts).toEqual(['0\n', '0\n1\n', '1\n2\n', '2\n3\n', '3\n4\n'])
  })

  it('has what it wrote in the tree of the checkpoint, before its caller hears the result (P6.2)', async () => {
    await exec('mkdir -p made && printf "by a command" > made/file.txt && chmod +x made/file.txt')
    const line = drive.said.findLast((one) => one.type === 'workspace')
    if (line?.type !== 'workspace') throw new Error('no tree was said')
    expect(content.read(line.treeHash)).toMatchObject({ 'made/file.txt': 'by a command' })
  })

  it('says that it is still at work, so that a long line is not taken for one that hangs', async () => {
    await patient.drive.untilHeard((line) => JSON.stringify(line).includes('notifications/progress'))
    // Heard by whoever drives the machine, it is heard by the client at the latest now.
    await new Promise((next) => setImmediate(next))
    patient.skills.pass(0.9)
    const answer = await patient.calling
    expect('code' in answer ? answer : textOf(answer.content)).toBe('woke\n')
  })
})

describe('the shell skill outside of any compartment', () => {
  it('ends what a line started, and nobody else', async () => {
    await buildSkills()
    const workspace = scratchDirectory('shell')
    const skill = await openFilesSkill({ workspace, bundle: join(ROOT, 'plugins/shell/dist/main.js') })
    const stranger = spawn('sleep', ['1099'], { detached: true, stdio: 'ignore' })
    try {
      const command =
        'sleep 1098 & setsid sleep 1097 & echo $BASHPID > group; setsid sh -c "echo \\$\\$ > away; sleep 1096" & sleep 1095'
      const ended = await skill.call('exec', { command, timeoutSeconds: ENOUGH_S })
      const text = `[ended after ${ENOUGH_S} s, with all that it had started]`
      expect(ended).toEqual({ text, isError: true, content: expect.anything() })
      for (const name of ['group', 'away']) {
        const pid = Number(readFileSync(join(workspace, name), 'utf8'))
        const left = await until(async () => (findProcess(pid)?.zombie === false ? undefined : 'gone'))
        expect(left).toBe('gone')
      }
      expect(findProcess(stranger.pid ?? 0)).toMatchObject({ zombie: false })
      expect((await skill.call('exec', { command: 'echo still here' })).text).toBe('still here\n')
    } finally {
      stranger.kill('SIGKILL')
      await skill.close()
      rmSync(workspace, { recursive: true })
    }
  })
})

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
