/** The page at `/`: what this is, for whoever opens it in a browser. It knows nothing of any application. */
export const frontPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Senmon</title>
<style>
  body { font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; }
  code { background: color-mix(in srgb, currentColor 10%, transparent); padding: 0.1em 0.3em; border-radius: 0.2em; }
  :root { color-scheme: light dark; }
</style>
<h1>Senmon</h1>
<p>Experts are published like npm packages and run here, one isolated machine per job.</p>
<dl>
  <dt><code>POST /graphql</code></dt><dd>jobs, checkpoints, experts; subscriptions as server-sent events</dd>
  <dt><code>/graphql/stream</code></dt><dd>the same over a single connection</dd>
  <dt><code>/expert_jobs</code></dt><dd>jobs over REST</dd>
  <dt><code>/npm/</code></dt><dd>the registry: <code>npm publish</code> goes there</dd>
  <dt><code>/healthz</code>, <code>/readyz</code></dt><dd>how this process is doing</dd>
</dl>
<p>Every request brings <code>Authorization: Bearer &lt;key&gt;</code>; the first start wrote a key to <code>dev-key</code> in the data directory.</p>
</html>
`
