/** Verdaccio's auth plugin: platform keys are npm tokens, and there is no other way in. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { PluginConfig } from '../../plugin.ts'

interface RemoteUser {
  readonly name?: string
  readonly real_groups: readonly string[]
}

type Decide = (error: Error | null, allowed?: boolean) => void

interface UserMakers {
  readonly createRemoteUser: (name: string, groups: readonly string[]) => RemoteUser
}

type Authenticated = IncomingMessage & { remote_user?: RemoteUser }
type Reply = ServerResponse & { locals: { remote_user?: RemoteUser } }

export default class Tokens {
  readonly #config: PluginConfig

  constructor(config: PluginConfig) {
    this.#config = config
  }

  /** The door has authenticated every request already; this tells verdaccio who it is. */
  apiJWTmiddleware({ createRemoteUser }: UserMakers) {
    const services = this.#config.connect('tokens')
    return (req: Authenticated, res: Reply, next: (error?: Error) => void): void => {
      const publisher = services.publisherOf(req)
      if (publisher === undefined) {
        next(status(401, 'A key of the platform is needed.'))
        return
      }
      const user = createRemoteUser(publisher.name, ['$authenticated'])
      req.remote_user = user
      res.locals.remote_user = user
      next()
    }
  }

  authenticate(_name: string, _password: string, done: (error: Error | null, groups?: false) => void): void {
    done(null, false)
  }

  adduser(_name: string, _password: string, done: (error: Error) => void): void {
    done(status(403, 'Users are applications of the platform; there is no registration here.'))
  }

  allow_access(user: RemoteUser, _package: unknown, done: Decide): void {
    done(null, typeof user.name === 'string')
  }

  /** The gate answers every write itself; one that came past it would be a fault. */
  allow_publish(_user: RemoteUser, _package: unknown, done: Decide): void {
    done(status(403, 'The gate alone publishes.'))
  }

  allow_unpublish(_user: RemoteUser, _package: unknown, done: Decide): void {
    done(status(403, 'Published means frozen.'))
  }
}

function status(code: number, message: string): Error {
  return Object.assign(new Error(message), { status: code, statusCode: code, code })
}
