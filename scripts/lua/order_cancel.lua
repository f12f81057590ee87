-- order_cancel: created -> cancelled, unless it came to another end before.
-- KEYS   those of order_lib.lua, with the order
-- ARGV   as order_pay
-- Reply  as order_pay, with `cancelled` for `paid`
return end_order('cancelled')
