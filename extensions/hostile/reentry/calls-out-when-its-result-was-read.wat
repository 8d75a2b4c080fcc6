(module
  (import "hostile:trial/host@1.0.0" "again" (func $again (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "answer-text") (param $who i32) (param $step i32) (result i32) (i32.const 64))
  (func (export "cabi_post_answer-text") (param i32) (drop (call $again (i32.const 0)))))
