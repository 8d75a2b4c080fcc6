(module
  (memory (export "memory") 1)
  (func (export "{{NAME}}") (param $who i32) (param $step i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $step))
    (i32.store (i32.const 20) (i32.const 0x10000))
    (i32.const 16)))
