/** Faults of skills: tools that drift, what a skill on the network may be sent and reach, and what comes back. */
import type { Fault } from './fault.ts'

const pins = ['test/schema/tool-pin.test.ts', 'test/run/pinned-tools.test.ts', 'test/run/skills.test.ts']
const remote = ['test/schema/remote-skill.test.ts']
const resources = ['test/run/resources.test.ts']
const network = { tests: ['test/adapter/remote-skills.test.ts'], suite: 'whole' } as const

export const faults: readonly Fault[] = [
  {
    name: 'a tool may be described otherwise than was pinned',
    file: 'schema/tool-pin.ts',
    find: "  description: 'description',\n",
    replace: '',
    tests: pins,
  },
  {
    name: 'a tool that is new is no drift',
    file: 'schema/tool-pin.ts',
    find: 'if (known === undefined) return [`${tool.name} is new`]',
    replace: 'if (known === undefined) return []',
    tests: pins,
  },
  {
    name: 'a tool that is gone is no drift',
    file: 'schema/tool-pin.ts',
    find: '(now.has(name) ? [] : [`${name} is gone`])',
    replace: '(now.has(name) ? [] : [])',
    tests: pins,
  },
  {
    name: 'a skill that is to start with the run waits for its first call',
    file: 'schema/tool-pin.ts',
    find: 'return skill.lazyInit ? skill.tools : undefined',
    replace: 'return skill.tools',
    tests: pins,
  },
  {
    name: 'a skill is not compared with what its lock pins',
    file: 'runner/skill/skills.ts',
    find: 'locked?.tools ?? ports.recorded(',
    replace: 'ports.recorded(',
    tests: pins,
  },
  {
    name: 'a machine may list other tools than the lock pins',
    file: 'src/attempt/admission.ts',
    find: 'locked.tools === undefined ? undefined : driftOf(locked.tools, tools)',
    replace: 'undefined',
    tests: pins,
  },
  {
    name: 'a run goes on without a skill that its expert requires',
    file: 'runner/run/happened.ts',
    find: 'if (servedSkillOf(expert, skill)?.required === true) return true',
    replace: '',
    tests: pins,
  },
  {
    name: 'two tools of one name are offered',
    file: 'runner/skill/definition.ts',
    find: 'if (new Set(tools.map((tool) => tool.name)).size < tools.length)',
    replace: 'if (new Set(tools.map((tool) => tool.name)).size > tools.length)',
    tests: pins,
  },
  {
    name: 'a link of IPv6 counts as the internet',
    file: 'schema/network.ts',
    find: 'return isIn(GLOBAL_6, address) && !isIn(SPECIAL_6, address)',
    replace: 'return !isIn(SPECIAL_6, address)',
    tests: remote,
  },
  {
    name: 'metadata services count as the internet',
    file: 'schema/network.ts',
    find: "  '169.254.0.0/16',\n",
    replace: '',
    tests: remote,
  },
  {
    name: 'an endpoint of the internet need not be encrypted',
    file: 'schema/remote-skill.ts',
    find: "if (url.protocol === 'https:' || isOwn(url.hostname)) return undefined",
    replace: 'return undefined',
    tests: remote,
  },
  {
    name: 'a package may hold the key that it sends',
    file: 'schema/remote-skill.ts',
    find: 'if (named.length === 0 && SECRET.test(header))',
    replace: 'if (named.length > 0 && SECRET.test(header))',
    tests: remote,
  },
  {
    name: 'a secret may bring a header of its own',
    file: 'schema/remote-skill.ts',
    find: 'if (!/^[\\x20-\\x7e]+$/.test(text)) return undefined',
    replace: '',
    tests: remote,
  },
  {
    name: 'reading a resource is no call',
    file: 'schema/served-call.ts',
    find: "if (method === 'resources/read') {",
    replace: "if (method === 'resources/write') {",
    tests: resources,
  },
  {
    name: 'each further page of a list is the call that was allowed',
    file: 'schema/served-call.ts',
    find: "return isFirst ? { tool: READ_RESOURCE, args: {} } : 'unclear'",
    replace: 'return { tool: READ_RESOURCE, args: {} }',
    tests: resources,
  },
  {
    name: 'a call of a skill on the network is passed on that the log does not have',
    file: 'src/skill/remote-skills.ts',
    find: 'return this.#options.refuseCall({',
    replace: 'return (async (_call: PermitParams) => undefined)({',
    ...network,
  },
  {
    name: 'whatever a machine says is passed on to a server',
    file: 'src/skill/remote-skills.ts',
    find: '!PASSED.has(method)',
    replace: 'PASSED.size === 0',
    ...network,
  },
  {
    name: 'a secret that a server repeats comes back',
    file: 'src/skill/remote-connection.ts',
    find: 'this.#options.hear(masked(frame, this.#options.secrets))',
    replace: 'this.#options.hear(frame)',
    ...network,
  },
  {
    name: 'a name is connected to when one of its addresses is allowed',
    file: 'src/skill/guarded-fetch.ts',
    find: 'const refused = addresses.find(({ address }) => !isAllowed(address))',
    replace: 'const refused = addresses.every(({ address }) => !isAllowed(address)) ? addresses[0] : undefined',
    ...network,
  },
  {
    name: 'a server may answer without an end',
    file: 'src/skill/guarded-fetch.ts',
    find: 'if (meter(chunk) <= bytesMax) return controller.enqueue(chunk)',
    replace: 'if (meter(chunk) <= Infinity) return controller.enqueue(chunk)',
    ...network,
  },
  {
    name: 'a publication picks a tool that is not there',
    file: 'registry/tool-pins.ts',
    find: 'if (missing !== undefined) return refuse(',
    replace: "if (missing === '') return refuse(",
    tests: ['test/protocol/tool-pins.test.ts'],
    suite: 'whole',
  },
]
