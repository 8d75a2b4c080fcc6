;; Counts its raises where the host is told to put what it answers: the text at 512, its place and length at 516.
(module
  (import "hostile:trial/host@1.0.0" "echo" (func $echo (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 512))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (local.get $step) (then
      (call $echo (i32.const 0) (i32.const 4) (i32.const 516))
      (call $echo (i32.const 0) (i32.const 4) (i32.const 512))
      unreachable))
    (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
    (i32.load (i32.const 512))))
