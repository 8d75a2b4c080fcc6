;; A case (u8), padding, then the payload: a number, or pointer and length of a text.
(module
  (memory (export "memory") 1)
  (func (export "answer-shape") (param $who i32) (param $step i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $step))
    (i32.store (i32.const 20) (i32.const 0x10000))
    (i32.store (i32.const 24) (i32.const 5))
    (i32.const 16)))
