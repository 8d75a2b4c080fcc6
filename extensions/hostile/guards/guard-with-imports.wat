(module
  (type $plain (func (result i32)))
  (import "hostile:trial/host@1.0.0" "note" (func $note (param i32 i32)))
  (memory (export "memory") 1)
  (table 1 funcref) (elem (i32.const 0) $hidden)
  (func $hidden (type $plain) (call $note (i32.const 0) (i32.const 0)) (i32.const 1))
  (func (export "guard") (param $who i32) (param $step i32) (result i32) {{CODE}})
  (func (export "run") (param $who i32) (param $step i32) (result i32) (i32.const 1)))
