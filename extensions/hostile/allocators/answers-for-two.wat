;; Answers with the first byte of each text.
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    {{ANSWER}})
  (func (export "take-texts")
    (param $who i32) (param $step i32) (param $one i32) (param $one-size i32) (param $other i32) (param $other-size i32)
    (result i32)
    (i32.or (i32.shl (i32.load8_u (local.get $one)) (i32.const 8)) (i32.load8_u (local.get $other)))))
