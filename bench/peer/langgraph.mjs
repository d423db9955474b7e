/**
 * LangGraph on its Postgres checkpointer, as a peer of the bench of a step. A line `{"steps":…,"results":[…]}` on stdin is
 * one thread of so many turns, each a model's message and a tool's; a line on stdout says when it begins and how it went.
 */
import { createInterface } from 'node:readline'
import { AIMessage, HumanMessage, ToolMessage } from '@langchain/core/messages'
import { END, MessagesAnnotation, START, StateGraph } from '@langchain/langgraph'
import { PostgresSaver } from '@langchain/langgraph-checkpoint-postgres'

const checkpointer = PostgresSaver.fromConnString(process.env.DATABASE_URL)
await checkpointer.setup()

let threads = 0

/** The model has no think time and the tool has its answer at hand: what is left is the library and its store. */
async function run(steps, results) {
  const ticks = []
  let turn = 0
  const model = () => {
    if (turn === steps) return { messages: [new AIMessage('Read.')] }
    turn += 1
    const call = { id: `call_${turn}`, name: 'read_file', args: { path: 'input/page.txt' }, type: 'tool_call' }
    return { messages: [new AIMessage({ content: '', tool_calls: [call] })] }
  }
  const tool = ({ messages }) => {
    ticks.push(performance.now())
    const [call] = messages.at(-1).tool_calls
    return {
      messages: [
        new ToolMessage({ content: results[(turn - 1) % results.length], tool_call_id: call.id, name: call.name }),
      ],
    }
  }
  const graph = new StateGraph(MessagesAnnotation)
    .addNode('model', model)
    .addNode('tool', tool)
    .addEdge(START, 'model')
    .addConditionalEdges('model', ({ messages }) => (messages.at(-1).tool_calls?.length > 0 ? 'tool' : END))
    .addEdge('tool', 'model')
    .compile({ checkpointer })
  const config = {
    configurable: { thread_id: `thread-${(threads += 1)}` },
    recursionLimit: 2 * steps + 10,
    durability: 'sync',
  }
  const from = performance.now()
  await graph.invoke({ messages: [new HumanMessage('Read.')] }, config)
  return { wallMs: performance.now() - from, ticks: ticks.map((tick) => tick - from) }
}

process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  const { steps, results } = JSON.parse(line)
  const before = process.cpuUsage()
  const measured = await run(steps, results)
  const { user, system } = process.cpuUsage(before)
  process.stdout.write(`${JSON.stringify({ ...measured, cpuMs: (user + system) / 1000 })}\n`)
}
await checkpointer.end()
