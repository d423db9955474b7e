/** Verdaccio's middleware plugin: whatever would write is answered here, before verdaccio has a route for it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { callbackify } from 'node:util'
import type { PluginConfig } from '../../plugin.ts'

type Next = (error?: unknown) => void
interface Application {
  use(middleware: (req: IncomingMessage, res: ServerResponse, next: Next) => void): void
}

export default class Gate {
  readonly #config: PluginConfig

  constructor(config: PluginConfig) {
    this.#config = config
  }

  register_middlewares(app: Application): void {
    const services = this.#config.connect('gate')
    app.use((req, res, next) => {
      // Verdaccio opens itself to every web page; nobody's page has business here.
      res.removeHeader('Access-Control-Allow-Origin')
      callbackify(() => services.pass(req, res))((error: unknown, answered) => {
        if (!answered) next(error ?? undefined)
      })
    })
  }
}
