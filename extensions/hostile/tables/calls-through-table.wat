(module
  (type $plain (func (result i32)))
  (type $other (func (param f64) (result i32)))
  (table 3 8 funcref)
  (elem (i32.const 0) $forty $takes)
  (func $forty (type $plain) (i32.const 40))
  (func $takes (type $other) (i32.const 41))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (call_indirect (type $plain) (local.get $step))))
