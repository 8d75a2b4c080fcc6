;; Writes into its map, answers with an empty text, and then does not come back, or traps.
(module
  (import "spinrt:kv/store@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "key")
  (global $step (mut i32) (i32.const 0))
  (func (export "answer-text") (param $who i32) (param $step i32) (result i32)
    (global.set $step (local.get $step))
    (if (local.get $step) (then
      (call $set (i32.const 64) (i32.const 3) (i32.const 64) (i32.const 3) (i32.const 128))))
    (i32.const 16))
  (func (export "cabi_post_answer-text") (param $at i32)
    (if (i32.eq (global.get $step) (i32.const 1)) (then unreachable))
    (if (i32.eq (global.get $step) (i32.const 2)) (then (loop $again (br $again))))))
