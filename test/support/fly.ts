/** Fly itself, for whoever has an app there to try things in. */
export interface LiveFly {
  readonly url: string
  readonly token: string
  readonly app: string
  readonly image: string
  readonly region: string
  readonly recordTo: string | undefined
}

/** Undefined unless all three of token, app and image are given: absent and empty are no. */
export function liveFly(): LiveFly | undefined {
  const { FLY_API_TOKEN: token = '', FLY_APP_NAME: app = '', FLY_IMAGE: image = '' } = process.env
  if (token === '' || app === '' || image === '') return undefined
  const { FLY_FLAPS_BASE_URL: url = 'https://api.machines.dev', FLY_REGION: region = 'iad' } = process.env
  return { url, token, app, image, region, recordTo: process.env['FLY_RECORD_DIR'] }
}
