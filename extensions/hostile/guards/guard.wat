;; A handler that counts its raises at 8, and says how many; its guard is told in the table.
(module
  (memory (export "memory") 1)
  (global $seen (mut i32) (i32.const 0))
  (func $guard (export "guard") (param $who i32) (param $step i32) (result i32) {{CODE}})
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
    (i32.add (i32.load (i32.const 8)) (global.get $seen))))
