(module
  (memory (export "memory") 1)
  (func (export "answer-numbers") (param $who i32) (param $step i32) (result i32)
    (i32.store (i32.const 16) (i32.const {{POINTER}}))
    (i32.store (i32.const 20) (i32.const {{COUNT}}))
    (i32.const 16)))
