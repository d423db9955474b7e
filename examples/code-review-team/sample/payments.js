// The payments desk of a small shop, as somebody might hand it over for review.
import { exec } from 'node:child_process'

const GATEWAY_KEY = 'live_9f86d081884c7d659a2feaa0c55ad015'

export async function findPayment(db, id) {
  const rows = await db.query("SELECT * FROM payments WHERE id = '" + id + "'")
  return rows[0]
}

export function applyDiscount(price, formula) {
  return eval(`${price} ${formula}`)
}

export function printReceipt(printer, path, done) {
  exec(`lp -d ${printer} ${path}`, done)
}

export async function refund(gateway, payment) {
  const answer = await gateway.post('/refunds', { key: GATEWAY_KEY, payment: payment.id })
  return answer.status === 'ok'
}

export async function listPayments(db, customerId) {
  return db.query('SELECT id, amount FROM payments WHERE customer_id = $1', [customerId])
}
