/** Which names a secret may have: those of environment variables that no program takes orders from. */

const NAME = /^[A-Z][A-Z0-9_]{1,63}$/

/** Each of these would let a value run code or move files in a skill that only meant to read a token. */
const DENIED: ReadonlySet<string> = new Set(
  `BASH_ENV BASHOPTS CDPATH CLASSPATH COMSPEC CURL_HOME DYLD_INSERT_LIBRARIES EDITOR ENV GCONV_PATH GIO_EXTRA_MODULES
  GLIBC_TUNABLES GOFLAGS HOME HOSTALIASES HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY IFS JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS
  LANG LOCPATH LOGNAME MAKEFLAGS MALLOC_CHECK_ NLSPATH NODE_CHANNEL_FD NODE_EXTRA_CA_CERTS NODE_OPTIONS NODE_PATH
  NODE_REDIRECT_WARNINGS NODE_REPL_EXTERNAL_MODULE NODE_TLS_REJECT_UNAUTHORIZED NODE_V8_COVERAGE OLDPWD
  OPENSSL_CONF OPENSSL_MODULES PAGER PATH PERL5DB PERL5LIB PERL5OPT PROMPT_COMMAND PWD PYTHONHOME PYTHONINSPECT
  PYTHONPATH PYTHONSTARTUP RES_OPTIONS RESOLV_HOST_CONF RUBYLIB RUBYOPT SHELL SHELLOPTS SSH_AUTH_SOCK SSL_CERT_DIR
  SSL_CERT_FILE SSLKEYLOGFILE TERM TERMINFO TMPDIR TZ TZDIR USER VISUAL`.split(/\s+/),
)
const DENIED_PREFIXES = ['LD_', 'DYLD_', 'GIT_', 'NPM_CONFIG_', 'NPM_PACKAGE_', 'SENMON_', 'BASH_FUNC_']

/** Why a text cannot name a secret; undefined when it can. */
export function refuseSecretName(name: string): string | undefined {
  if (!NAME.test(name)) return 'must match ^[A-Z][A-Z0-9_]{1,63}$'
  if (DENIED.has(name) || DENIED_PREFIXES.some((prefix) => name.startsWith(prefix)))
    return 'is reserved, because programs take orders from it'
  return undefined
}
