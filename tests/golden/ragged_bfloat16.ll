define internal void @ragged_bfloat16.tiles(ptr noalias readonly %in0, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  %mask80 = alloca <8 x i8>
  br label %body0
body0:
  %r0 = phi i64 [ 0, %entry ], [ %next0, %latch0 ]
  %v1 = icmp slt i64 %r0, 2
  %v2 = zext i1 %v1 to i64
  %v3 = mul i64 %r0, 8
  %v5 = icmp ne i64 %v2, 0
  br i1 %v5, label %body4, label %exit4
body4:
  %v6 = getelementptr double, ptr %in0, i64 %v3
  %v7 = load <8 x double>, ptr %v6, align 8
  %v8 = fptrunc <8 x double> %v7 to <8 x float>
  %v9 = fpext <8 x float> %v8 to <8 x double>
  %v10 = fcmp oeq <8 x double> %v9, %v7
  %v11 = bitcast <8 x float> %v8 to <8 x i32>
  %v12 = bitcast <8 x double> %v7 to <8 x i64>
  %v13 = and <8 x i64> %v12, <i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807>
  %v14 = bitcast <8 x double> %v9 to <8 x i64>
  %v15 = and <8 x i64> %v14, <i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807>
  %v16 = icmp ult <8 x i64> %v13, %v15
  %v17 = sub <8 x i32> %v11, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v18 = select <8 x i1> %v16, <8 x i32> %v17, <8 x i32> %v11
  %v19 = or <8 x i32> %v18, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v20 = select <8 x i1> %v10, <8 x i32> %v11, <8 x i32> %v19
  %v21 = bitcast <8 x i32> %v20 to <8 x float>
  %v22 = bitcast <8 x float> %v21 to <8 x i32>
  %v23 = lshr <8 x i32> %v22, <i32 31, i32 31, i32 31, i32 31, i32 31, i32 31, i32 31, i32 31>
  %v24 = shl <8 x i32> %v23, <i32 15, i32 15, i32 15, i32 15, i32 15, i32 15, i32 15, i32 15>
  %v25 = and <8 x i32> %v22, <i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647>
  %v26 = icmp ult <8 x i32> <i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040>, %v25
  %v27 = add <8 x i32> %v25, <i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767>
  %v28 = lshr <8 x i32> %v25, <i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16>
  %v29 = and <8 x i32> %v28, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v30 = add <8 x i32> %v27, %v29
  %v31 = lshr <8 x i32> %v30, <i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16>
  %v32 = sub <8 x i32> %v31, <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %v33 = icmp ult <8 x i32> %v32, <i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640>
  %v34 = select <8 x i1> %v33, <8 x i32> %v32, <8 x i32> <i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640>
  %v35 = select <8 x i1> %v26, <8 x i32> <i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704>, <8 x i32> %v34
  %v36 = or <8 x i32> %v24, %v35
  %v37 = trunc <8 x i32> %v36 to <8 x i16>
  %v38 = getelementptr i16, ptr %out, i64 %v3
  store <8 x i16> %v37, ptr %v38, align 2
  br label %exit4
exit4:
  %v39 = xor i1 %v1, true
  %v40 = zext i1 %v39 to i64
  %v41 = mul i64 %r0, -8
  %v42 = add i64 %v41, 21
  %v43 = insertelement <8 x i64> poison, i64 %v42, i64 0
  %v44 = shufflevector <8 x i64> %v43, <8 x i64> poison, <8 x i32> zeroinitializer
  %v45 = icmp slt <8 x i64> <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7>, %v44
  %v47 = icmp ne i64 %v40, 0
  br i1 %v47, label %body46, label %exit46
body46:
  %v48 = getelementptr double, ptr %in0, i64 %v3
  %v49 = call <8 x double> @llvm.masked.load.v8f64.p0(ptr %v48, i32 8, <8 x i1> %v45, <8 x double> <double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000, double 0x0000000000000000>)
  %v50 = fptrunc <8 x double> %v49 to <8 x float>
  %v51 = fpext <8 x float> %v50 to <8 x double>
  %v52 = fcmp oeq <8 x double> %v51, %v49
  %v53 = bitcast <8 x float> %v50 to <8 x i32>
  %v54 = bitcast <8 x double> %v49 to <8 x i64>
  %v55 = and <8 x i64> %v54, <i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807>
  %v56 = bitcast <8 x double> %v51 to <8 x i64>
  %v57 = and <8 x i64> %v56, <i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807, i64 9223372036854775807>
  %v58 = icmp ult <8 x i64> %v55, %v57
  %v59 = sub <8 x i32> %v53, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v60 = select <8 x i1> %v58, <8 x i32> %v59, <8 x i32> %v53
  %v61 = or <8 x i32> %v60, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v62 = select <8 x i1> %v52, <8 x i32> %v53, <8 x i32> %v61
  %v63 = bitcast <8 x i32> %v62 to <8 x float>
  %v64 = bitcast <8 x float> %v63 to <8 x i32>
  %v65 = lshr <8 x i32> %v64, <i32 31, i32 31, i32 31, i32 31, i32 31, i32 31, i32 31, i32 31>
  %v66 = shl <8 x i32> %v65, <i32 15, i32 15, i32 15, i32 15, i32 15, i32 15, i32 15, i32 15>
  %v67 = and <8 x i32> %v64, <i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647, i32 2147483647>
  %v68 = icmp ult <8 x i32> <i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040, i32 2139095040>, %v67
  %v69 = add <8 x i32> %v67, <i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767, i32 32767>
  %v70 = lshr <8 x i32> %v67, <i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16>
  %v71 = and <8 x i32> %v70, <i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1, i32 1>
  %v72 = add <8 x i32> %v69, %v71
  %v73 = lshr <8 x i32> %v72, <i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16, i32 16>
  %v74 = sub <8 x i32> %v73, <i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0, i32 0>
  %v75 = icmp ult <8 x i32> %v74, <i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640>
  %v76 = select <8 x i1> %v75, <8 x i32> %v74, <8 x i32> <i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640, i32 32640>
  %v77 = select <8 x i1> %v68, <8 x i32> <i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704, i32 32704>, <8 x i32> %v76
  %v78 = or <8 x i32> %v66, %v77
  %v79 = trunc <8 x i32> %v78 to <8 x i16>
  %v81 = zext <8 x i1> %v45 to <8 x i8>
  store volatile <8 x i8> %v81, ptr %mask80
  %v82 = load volatile <8 x i8>, ptr %mask80
  %v83 = icmp ne <8 x i8> %v82, <i8 0, i8 0, i8 0, i8 0, i8 0, i8 0, i8 0, i8 0>
  %v84 = getelementptr i16, ptr %out, i64 %v3
  call void @llvm.masked.store.v8i16.p0(<8 x i16> %v79, ptr %v84, i32 2, <8 x i1> %v83)
  br label %exit46
exit46:
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v85 = icmp slt i64 %next0, 3
  br i1 %v85, label %body0, label %exit0
exit0:
  ret void
}
define void @ragged_bfloat16(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @ragged_bfloat16.tiles(ptr %b1, ptr %b0, i64 %first, i64 %last)
  ret void
}
declare <8 x double> @llvm.masked.load.v8f64.p0(ptr, i32 immarg, <8 x i1>, <8 x double>)
declare void @llvm.masked.store.v8i16.p0(<8 x i16>, ptr, i32 immarg, <8 x i1>)
