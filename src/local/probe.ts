/** Why bubblewrap starts no sandbox on this computer. */
import type { ProbeResult } from '../pool/machine-host.ts'

/** Why bubblewrap did not start, from what it wrote, and what to do. */
export function explainBubblewrap(stderr: string): ProbeResult {
  const reason = `bubblewrap does not start a sandbox here: ${stderr || 'it said nothing'}.`
  if (/uid map|RTM_NEWADDR|new namespace|Operation not permitted|Permission denied/i.test(stderr))
    return {
      ok: false,
      reason,
      fix:
        'Allow unprivileged user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu, ' +
        '`sysctl -w kernel.unprivileged_userns_clone=1` on old Debian; in a container use SENMON_MACHINES=docker.',
    }
  if (/Unknown option/i.test(stderr)) return { ok: false, reason, fix: 'Install bubblewrap 0.8.0 or newer.' }
  return { ok: false, reason, fix: 'Run the command that the message names by hand, and see what the kernel refuses.' }
}
