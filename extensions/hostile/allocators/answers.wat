(module
  (memory (export "memory") 1)
  (func $alloc (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    {{ANSWER}})
  (func (export "take-text") (param $who i32) (param $step i32) (param $at i32) (param $length i32) (result i32)
    (local.get $length))
  (func (export "take-numbers") (param $who i32) (param $step i32) (param $at i32) (param $count i32) (result i32)
    (local.get $count)))
