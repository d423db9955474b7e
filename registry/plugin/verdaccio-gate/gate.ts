/** Verdaccio's middleware plugin: whatever would write is answered here, before verdaccio has a route for it. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { callbackify } from 'node:util'
import type { PluginConfig, RegistryServices } from '../../plugin.ts'

type Next = (error?: unknown) => void
interface Application {
  use(middleware: (req: IncomingMessage, res: ServerResponse, next: Next) => void): void
}

export default class Gate {
  readonly #services: RegistryServices

  constructor(config: PluginConfig) {
    this.#services = config.connect('gate')
  }

  register_middlewares(app: Application): void {
    app.use((req, res, next) => {
      // Verdaccio opens itself to every web page; nobody's page has business here.
      res.removeHeader('Access-Control-Allow-Origin')
      callbackify(() => this.#services.pass(req, res))((error: unknown, answered) => {
        if (!answered) next(error ?? undefined)
      })
    })
  }
}
